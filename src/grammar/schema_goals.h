// SPDX-License-Identifier: Apache-2.0
// What a value must satisfy: a goal is a list of schemas, all of which hold. References, allOf, anyOf and oneOf are resolved into
// alternatives, each a list of schemas without them; what their keywords say together is a ValueRules.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "grammar/char_automaton.h"
#include "grammar/compile_budget.h"
#include "grammar/number_range.h"
#include "grammar/schema_document.h"

namespace puna {

using Goal = std::vector<SchemaId>;

enum JsonType : unsigned {
  kNullType = 1,
  kBooleanType = 2,
  kIntegerType = 4,
  kNumberType = 8,  // numbers that are no integers
  kStringType = 16,
  kArrayType = 32,
  kObjectType = 64,
  kAnyType = 127,
};
constexpr unsigned kNumbers = kIntegerType | kNumberType;

// A pattern that strings match; formats are patterns too.
struct StringPattern {
  std::string pattern, place;
  bool whole = false;  // else some part of the string
};

struct CountRange {
  std::uint32_t min = 0, max = kUnlimited;
  bool empty() const { return min > max; }
};

struct ValueRules {
  Goal schemas;                             // that these are the rules of
  unsigned types = kAnyType;                // of JsonType
  bool typed = false;                       // some schema has "type"
  unsigned mentioned = 0;                   // types that some keyword is about
  std::optional<std::vector<Json>> values;  // of enum and const, those that every other rule allows as well
  CountRange length, items, properties;
  std::vector<StringPattern> patterns;
  NumberRange numbers;
};

class SchemaGoals {
 public:
  explicit SchemaGoals(SchemaDocuments& documents) : documents_(documents) {}

  SchemaDocuments& documents() { return documents_; }
  CompileBudget& budget() { return budget_; }
  // Those that some value may satisfy, as far as that is plain. Throws kUnsupported for a oneOf of which two may hold at once, for
  // references in a circle, for more than kMaxAlternatives, and, as everything here, past a CompileBudget.
  std::vector<Goal> alternatives(const Goal& goal);
  // Of an alternative. Throws kUnsupported naming the keyword that cannot be followed.
  ValueRules rules_of(const Goal& plain);

  // What the value of an object's member, or of an array's item, must satisfy: the schemas that apply to it.
  Goal member_goal(const Goal& plain, const std::string& name);
  Goal item_goal(const Goal& plain, std::size_t index);
  bool allows_name(const Goal& plain, const std::string& name);  // "propertyNames"

  // The strings that the rules allow, values aside.
  CharAutomaton strings_of(const ValueRules& rules);
  const CharAutomaton& pattern_automaton(const StringPattern& pattern);

  static constexpr std::size_t kMaxAlternatives = 512;

 private:
  struct Choice {
    SchemaId holder = 0;
    const char* keyword = "";
    Goal path;  // the schemas it lies in without anything between, outermost first
  };
  // An alternative on the way.
  struct Branch {
    Goal plain;
    std::vector<Choice> choices;  // still to be made
    bool dead = false;
  };

  void expand(Branch& branch, SchemaId id, Goal path);
  std::vector<Goal> resolve(Branch branch, bool check_one_of);
  void check_one_of(const Branch& before, const Choice& choice, const std::vector<SchemaId>& options);
  std::vector<Goal> unchecked_alternatives(const Goal& goal);  // each oneOf taken for an anyOf
  bool disjoint(const std::vector<Goal>& a, const std::vector<Goal>& b, int depth);
  bool disjoint_plain(const Goal& a, const Goal& b, int depth);
  bool disjoint_type(const ValueRules& a, const ValueRules& b, JsonType type, int depth);
  bool disjoint_objects(const ValueRules& a, const ValueRules& b, int depth);

  void read_schema(SchemaId id, ValueRules& rules);
  void read_numbers(SchemaId id, ValueRules& rules);
  void read_format(SchemaId id, ValueRules& rules);
  void read_values(SchemaId id, ValueRules& rules);
  bool allows(const ValueRules& rules, const Json& value);
  bool matches(const StringPattern& pattern, const std::string& text);

  SchemaDocuments& documents_;
  CompileBudget budget_;
  int comparisons_ = 0;                                             // of alternatives, in disjoint()
  std::map<std::pair<std::string, bool>, CharAutomaton> automata_;  // by pattern
};

}  // namespace puna
