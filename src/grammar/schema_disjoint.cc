// SPDX-License-Identifier: Apache-2.0
// Whether two goals can never hold at once. "No" may mean that it cannot be seen. Part of SchemaGoals.
#include <algorithm>
#include <array>
#include <set>
#include <string>

#include "base/error.h"
#include "grammar/listed_values.h"
#include "grammar/schema_goals.h"

namespace puna {
namespace {

constexpr std::size_t kTooLargeSteps = 1'000'000;  // what an automaton has cost that turned out too large
constexpr int kMaxDepth = 4;                       // members of members that are looked at
constexpr std::size_t kMaxPrefix = 8;              // items of arrays that are

bool apart(const CountRange& a, const CountRange& b) { return a.max < b.min || b.max < a.min; }

// Some low bound lies above some high bound.
bool apart(const std::vector<NumberBound>& low, const std::vector<NumberBound>& high) {
  return std::ranges::any_of(low, [&](const NumberBound& l) {
    return std::ranges::any_of(high, [&](const NumberBound& h) {
      const int order = compare_numbers(l.value, h.value);
      return order > 0 || (order == 0 && (l.exclusive || h.exclusive));
    });
  });
}

}  // namespace

bool SchemaGoals::disjoint(const std::vector<Goal>& a, const std::vector<Goal>& b, int depth) {
  return std::ranges::all_of(
      a, [&](const Goal& x) { return std::ranges::all_of(b, [&](const Goal& y) { return disjoint_plain(x, y, depth); }); });
}

bool SchemaGoals::disjoint_plain(const Goal& a, const Goal& b, int depth) {
  constexpr int kMaxComparisons = 20'000;
  if (++comparisons_ > kMaxComparisons) return false;
  const ValueRules x = rules_of(a), y = rules_of(b);
  if (x.values || y.values) {
    const ValueRules& listed = x.values ? x : y;
    const ValueRules& other = x.values ? y : x;
    const ListedValues known(other.values.value_or(std::vector<Json>()));
    return std::ranges::none_of(*listed.values,
                                [&](const Json& value) { return other.values ? known.contains(value) : allows(other, value); });
  }
  constexpr std::array kTypes = {kNullType, kBooleanType, kIntegerType, kNumberType, kStringType, kArrayType, kObjectType};
  return std::ranges::all_of(kTypes,
                             [&](JsonType type) { return (x.types & y.types & type) == 0 || disjoint_type(x, y, type, depth); });
}

bool SchemaGoals::disjoint_type(const ValueRules& a, const ValueRules& b, JsonType type, int depth) {
  switch (type) {
    case kIntegerType:
    case kNumberType:
      if (const std::size_t pairs = a.numbers.low.size() * b.numbers.high.size() + b.numbers.low.size() * a.numbers.high.size();
          pairs > 0)
        budget_.spend(CompileBudget::kNumberSteps * pairs, documents_.place(a.schemas.front()));
      return apart(a.numbers.low, b.numbers.high) || apart(b.numbers.low, a.numbers.high);
    case kStringType:
      if (apart(a.length, b.length)) return true;
      if (a.patterns.empty() || b.patterns.empty()) return false;
      try {
        const CharAutomaton common = strings_of(a).both(strings_of(b), documents_.place(a.schemas.front()));
        budget_.spend(common.work(), documents_.place(a.schemas.front()));
        return common.empty();
      } catch (const Error& error) {
        if (error.kind() != ErrorKind::kUnsupported) throw;
        budget_.spend(kTooLargeSteps, documents_.place(a.schemas.front()));
        return false;  // too large to see
      }
    case kArrayType: {
      if (apart(a.items, b.items)) return true;
      const std::size_t sure = std::min<std::size_t>(std::max(a.items.min, b.items.min), kMaxPrefix);
      for (std::size_t i = 0; i < sure && depth < kMaxDepth; ++i) {
        if (disjoint(unchecked_alternatives(item_goal(a.schemas, i)), unchecked_alternatives(item_goal(b.schemas, i)), depth + 1))
          return true;
      }
      return false;
    }
    case kObjectType:
      return disjoint_objects(a, b, depth);
    default:
      return false;
  }
}

// A member that one of them requires cannot satisfy both.
bool SchemaGoals::disjoint_objects(const ValueRules& a, const ValueRules& b, int depth) {
  if (apart(a.properties, b.properties)) return true;
  if (depth == kMaxDepth) return false;
  std::set<std::string> names;
  for (const ValueRules* rules : {&a, &b}) {
    for (const SchemaId id : rules->schemas) {
      const Json* required = documents_.find(id, "required");
      if (required == nullptr) continue;
      for (const Json& name : *required) names.insert(name.get<std::string>());
    }
  }
  return std::ranges::any_of(names, [&](const std::string& name) {
    return disjoint(unchecked_alternatives(member_goal(a.schemas, name)), unchecked_alternatives(member_goal(b.schemas, name)),
                    depth + 1);
  });
}

}  // namespace puna
