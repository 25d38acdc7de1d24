// SPDX-License-Identifier: Apache-2.0
// Objects. Members stand in a fixed order, so an automaton need not remember which were written: before each declared member there
// is a state where its key comes next, from which an optional one is stepped over, and behind each a state where a comma or the end
// comes. Part of SchemaCompiler.
#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "grammar/schema_compiler.h"

namespace puna {
namespace {

constexpr std::size_t kMaxPatterns = 16;    // of patternProperties, together
constexpr std::size_t kAutomatonSteps = 3;  // of a CompileBudget, for each state or step of an automaton

}  // namespace

// The names that "properties" and "required" give, in order, and which are required.
std::vector<std::pair<std::string, bool>> SchemaCompiler::declared_members(const Goal& plain) const {
  std::vector<std::pair<std::string, bool>> members;
  std::map<std::string, std::size_t, std::less<>> places;
  const auto place_of = [&](const std::string& name) {
    const auto [known, fresh] = places.try_emplace(name, members.size());
    if (fresh) members.emplace_back(name, false);
    return known->second;
  };
  for (const SchemaId id : plain) {
    if (const Json* properties = documents_.find(id, "properties")) {
      for (const auto& [name, schema] : properties->items()) place_of(name);
    }
  }
  for (const SchemaId id : plain) {
    if (const Json* required = documents_.find(id, "required")) {
      for (const Json& name : *required) members[place_of(name.get<std::string>())].second = true;
    }
  }
  return members;
}

// Names of others: none that is declared, and only what "propertyNames" allows. Nothing where any name will do.
std::optional<CharAutomaton> SchemaCompiler::allowed_names(const Goal& plain,
                                                           const std::vector<std::pair<std::string, bool>>& declared) {
  std::optional<CharAutomaton> names;
  const auto restrict_to = [&](const CharAutomaton& set, const std::string& where) {
    names = names ? names->both(set, where) : set;
    goals_.budget().spend(kAutomatonSteps * names->work(), where);
  };
  if (!declared.empty()) {
    std::vector<std::string> texts;
    for (const auto& [name, required] : declared) texts.push_back(name);
    const std::string& where = documents_.place(plain.front());
    restrict_to(CharAutomaton::of_texts(texts, where).complement(), where);
  }
  for (const SchemaId id : plain) {
    if (documents_.find(id, "propertyNames") == nullptr) continue;
    const std::string where = documents_.place_of(id, "propertyNames");
    const std::vector<Goal> options = goals_.alternatives({documents_.below(id, "propertyNames")});
    if (options.size() > 1) fail(ErrorKind::kUnsupported, where, "alternatives of names cannot be followed: write one pattern");
    ValueRules rules;
    rules.types = 0;
    if (!options.empty()) rules = goals_.rules_of(options.front());
    std::vector<std::string> listed;
    for (const Json& value : rules.values.value_or(std::vector<Json>())) {
      if (value.is_string()) listed.push_back(value.get<std::string>());
    }
    const bool none = (rules.types & kStringType) == 0;
    restrict_to(none || rules.values ? CharAutomaton::of_texts(listed, where) : goals_.strings_of(rules), where);
  }
  return names;
}

// By the patterns that a name matches: each set of patterns with names of its own is one entry.
std::vector<SchemaCompiler::OtherMembers> SchemaCompiler::other_members(const Goal& plain,
                                                                        const std::vector<std::pair<std::string, bool>>& declared) {
  struct Pattern {
    SchemaId holder;
    StringPattern pattern;
  };
  struct Part {
    std::optional<CharAutomaton> names;
    std::vector<bool> matches;  // by pattern
  };
  std::vector<Pattern> patterns;
  bool described = false, names_any = false;
  for (const SchemaId id : plain) {
    described = described || documents_.find(id, "additionalProperties") != nullptr;
    const Json* listed = documents_.find(id, "patternProperties");
    const Json* properties = documents_.find(id, "properties");
    names_any = names_any || (properties != nullptr && !properties->empty()) || (listed != nullptr && !listed->empty());
    if (listed == nullptr) continue;
    for (const auto& [pattern, schema] : listed->items())
      patterns.push_back({id, {pattern, documents_.place_of(id, "patternProperties"), false}});
    if (patterns.size() > kMaxPatterns) {
      fail(ErrorKind::kUnsupported, documents_.place_of(id, "patternProperties"), "at most {} patterns can be told apart",
           kMaxPatterns);
    }
  }
  std::vector<Part> parts;
  parts.push_back({allowed_names(plain, declared), {}});
  for (const Pattern& pattern : patterns) {
    const CharAutomaton& matching = goals_.pattern_automaton(pattern.pattern);
    std::vector<Part> split;
    for (Part& part : parts) {
      for (const bool matches : {true, false}) {
        const CharAutomaton half = matches ? matching : matching.complement();
        Part next{part.names ? part.names->both(half, pattern.pattern.place) : half, part.matches};
        next.matches.push_back(matches);
        goals_.budget().spend(kAutomatonSteps * (half.size() + next.names->work()), pattern.pattern.place);
        if (!next.names->empty()) split.push_back(std::move(next));
      }
    }
    parts = std::move(split);
  }
  std::vector<OtherMembers> others;
  for (Part& part : parts) {
    const bool matched = std::ranges::count(part.matches, true) > 0;
    if (!matched && names_any && !described) continue;
    Goal goal;
    for (const SchemaId id : plain) {
      bool known = false;
      for (std::size_t i = 0; i < patterns.size(); ++i) {
        if (patterns[i].holder != id || !part.matches[i]) continue;
        goal.push_back(documents_.below(id, "patternProperties", patterns[i].pattern.pattern));
        known = true;
      }
      if (!known && documents_.find(id, "additionalProperties") != nullptr)
        goal.push_back(documents_.below(id, "additionalProperties"));
    }
    others.push_back({std::move(part.names), std::move(goal)});
  }
  return others;
}

int SchemaCompiler::write_member(int from, const std::string& name, const Goal& goal) {
  return builder_.add_call(text_.add_space(builder_.add_text(from, quoted_json(name) + ":")), rule_of(goal));
}

// Members of any of these kinds: the first behind `key`, where its key comes next.
void SchemaCompiler::write_others(const std::vector<OtherMembers>& others, CountRange count, int key, int closing) {
  if (others.empty() || count.max == 0) return;
  const int body = builder_.add_state(), body_end = builder_.add_state(), again = builder_.add_state();
  for (const OtherMembers& kind : others) {
    int name = 0;
    if (kind.names) {
      name = builder_.add_text(kind.names->add_to(builder_, builder_.add_text(body, "\""), spell_in_json), "\"");
    } else {
      name = text_.add_string(body);
    }
    builder_.add_empty(builder_.add_call(text_.add_space(builder_.add_text(name, ":")), rule_of(kind.goal)), body_end);
  }
  builder_.add_empty(text_.add_space(builder_.add_text(again, ",")), body);
  builder_.add_empty(builder_.add_repeat(key, body, body_end, again, std::max(count.min, 1u), count.max), closing);
}

void SchemaCompiler::write_object(const ValueRules& rules, int start, int end) {
  std::vector<std::pair<std::string, bool>> members = declared_members(rules.schemas);
  std::vector<OtherMembers> others = other_members(rules.schemas, members);
  const auto required = static_cast<std::uint32_t>(std::ranges::count_if(members, [](const auto& m) { return m.second; }));
  const auto optional = static_cast<std::uint32_t>(members.size()) - required;
  const auto refuse_count = [&](const char* keyword) {
    for (const SchemaId id : rules.schemas) {
      if (documents_.find(id, keyword) == nullptr) continue;
      fail(ErrorKind::kUnsupported, documents_.place_of(id, keyword),
           "members that may be left out cannot be counted: require those that must be there, or leave this out");
    }
  };
  // How many others there may be. Two of them may have one name, and then count once: no more than one can be asked for.
  CountRange count{0, kUnlimited};
  const std::uint32_t missing = rules.properties.min > required ? rules.properties.min - required : 0;
  if (missing > 1 || (missing == 1 && required > 0 && optional > 0)) refuse_count("minProperties");
  if (missing == 1 && optional == 0) count.min = 1;
  if (count.min > 0 && others.empty()) refuse_count("minProperties");
  const bool not_empty = missing == 1 && optional > 0;
  if (rules.properties.max != kUnlimited) {
    if (rules.properties.max < required + optional) refuse_count("maxProperties");
    count.max = rules.properties.max - required - optional;
  }

  const int closing = builder_.add_state();
  builder_.add_empty(builder_.add_text(text_.add_space(closing), "}"), end);
  const int open = builder_.add_text(start, "{");
  if (required == 0 && !not_empty && count.min == 0) builder_.add_empty(open, closing);
  int key = text_.add_space(open);  // the next member's key comes here
  std::uint32_t still_required = required;
  for (const auto& [name, needed] : members) {
    const int after = builder_.add_state(), next_key = builder_.add_state();
    if (goals_.allows_name(rules.schemas, name))
      builder_.add_empty(write_member(key, name, goals_.member_goal(rules.schemas, name)), after);
    if (needed) {
      --still_required;
    } else {
      builder_.add_empty(key, next_key);
    }
    builder_.add_empty(text_.add_space(builder_.add_text(after, ",")), next_key);
    if (still_required == 0 && count.min == 0) builder_.add_empty(after, closing);
    key = next_key;
  }
  write_others(others, count, key, closing);
}

}  // namespace puna
