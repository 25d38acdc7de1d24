// SPDX-License-Identifier: Apache-2.0
// Turns goals (schema_goals.h) into rules of a grammar: one rule for each goal that is met, so that schemas may refer to each other
// in circles and nothing here goes deeper than the text of a schema. Use: add the documents, ask for rules, then finish().
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "grammar/grammar_builder.h"
#include "grammar/json_text.h"
#include "grammar/schema_goals.h"

namespace puna {

class SchemaCompiler {
 public:
  explicit SchemaCompiler(GrammarBuilder& builder) : builder_(builder), text_(builder), goals_(documents_) {}

  // A document, which must live as long as this object; `where` is its name in messages.
  SchemaId add_document(const Json& schema, const std::string& where) { return documents_.add(schema, where); }
  // The rule of the values that satisfy all of these; its states are there once finish() has run.
  int rule_of(const Goal& goal);
  void finish();

  JsonText& text() { return text_; }

 private:
  // Members that are no declared ones: the names they may have (all where there is no automaton), and what their values satisfy.
  struct OtherMembers {
    std::optional<CharAutomaton> names;
    Goal goal;
  };

  void write_alternative(const Goal& plain, int start, int end);
  void write_values(const std::vector<Json>& values, int start, int end);
  int write_string(const ValueRules& rules, int from);
  void write_array(const ValueRules& rules, int start, int end);
  void write_object(const ValueRules& rules, int start, int end);
  void write_others(const std::vector<OtherMembers>& others, CountRange count, int key, int closing);
  int write_member(int from, const std::string& name, const Goal& goal);
  std::vector<std::pair<std::string, bool>> declared_members(const Goal& plain) const;
  std::vector<OtherMembers> other_members(const Goal& plain, const std::vector<std::pair<std::string, bool>>& declared);
  std::optional<CharAutomaton> allowed_names(const Goal& plain, const std::vector<std::pair<std::string, bool>>& declared);

  GrammarBuilder& builder_;
  JsonText text_;
  SchemaDocuments documents_;
  SchemaGoals goals_;
  std::map<Goal, int> rules_;  // by the goal's schemas, sorted
  std::vector<std::pair<Goal, int>> open_;
};

}  // namespace puna
