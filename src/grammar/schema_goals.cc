// SPDX-License-Identifier: Apache-2.0
#include "grammar/schema_goals.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "grammar/listed_values.h"
#include "grammar/regex.h"
#include "grammar/string_formats.h"
#include "text/unicode.h"

namespace puna {
namespace {

constexpr std::size_t kMaxPath = 64;  // references and combinations in each other

// Of a CompileBudget.
constexpr std::size_t kBranchSteps = 20, kSchemaSteps = 20;
std::size_t text_steps(const std::string& text) { return 1 + text.size() / 8; }

bool contains(const Goal& goal, SchemaId id) { return std::ranges::count(goal, id) > 0; }

unsigned type_named(const std::string& name) {
  if (name == "null") return kNullType;
  if (name == "boolean") return kBooleanType;
  if (name == "integer") return kIntegerType;
  if (name == "number") return kNumbers;
  if (name == "string") return kStringType;
  return name == "array" ? kArrayType : kObjectType;
}

unsigned types_of(const Json& value) {
  unsigned types = 0;
  for (const Json& name : value.is_array() ? value : Json::array({value})) types |= type_named(name.get<std::string>());
  return types;
}

unsigned type_of(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return kNullType;
    case Json::value_t::boolean:
      return kBooleanType;
    case Json::value_t::string:
      return kStringType;
    case Json::value_t::array:
      return kArrayType;
    case Json::value_t::object:
      return kObjectType;
    default:
      return is_whole_number(value) ? kIntegerType : kNumberType;
  }
}

std::uint32_t count_of(const Json& value) { return static_cast<std::uint32_t>(std::min(value.get<double>(), 4e9)); }

std::size_t characters(std::string_view text) {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

bool in_range(const NumberRange& range, const Json& value) {
  const bool low = std::ranges::all_of(range.low, [&](const NumberBound& bound) {
    const int order = compare_numbers(value, bound.value);
    return order > 0 || (order == 0 && !bound.exclusive);
  });
  const bool high = std::ranges::all_of(range.high, [&](const NumberBound& bound) {
    const int order = compare_numbers(value, bound.value);
    return order < 0 || (order == 0 && !bound.exclusive);
  });
  if (!low || !high || (range.whole && !is_whole_number(value))) return false;
  if (range.multiple_of == 1) return true;
  const DecimalNumber number = decimal_number(value);
  std::uint64_t remainder = 0;
  for (const char digit : number.digits) remainder = (remainder * 10 + static_cast<std::uint64_t>(digit - '0')) % range.multiple_of;
  for (int i = 0; i < number.exponent && remainder != 0; ++i) remainder = remainder * 10 % range.multiple_of;
  return remainder == 0;
}

}  // namespace

std::vector<Goal> SchemaGoals::alternatives(const Goal& goal) {
  Branch branch;
  for (const SchemaId id : goal) expand(branch, id, {});
  return resolve(std::move(branch), true);
}

std::vector<Goal> SchemaGoals::unchecked_alternatives(const Goal& goal) {
  Branch branch;
  for (const SchemaId id : goal) expand(branch, id, {});
  return resolve(std::move(branch), false);
}

// Adds a schema and those that hold at the same place whenever it does.
void SchemaGoals::expand(Branch& branch, SchemaId id, Goal path) {
  if (contains(path, id)) {
    fail(ErrorKind::kBadInput, documents_.place(id), "refers to itself without anything in between: what it allows is not defined");
  }
  if (path.size() == kMaxPath)
    fail(ErrorKind::kUnsupported, documents_.place(id), "references, allOf and anyOf lie in each other more than {} deep",
         kMaxPath);
  budget_.spend(1 + branch.plain.size() / 64, documents_.place(id));
  documents_.check(id);
  const Json& schema = documents_.value(id);
  if (schema.is_boolean()) {
    branch.dead = branch.dead || !schema.get<bool>();
    return;
  }
  if (contains(branch.plain, id)) return;
  branch.plain.push_back(id);
  path.push_back(id);
  if (schema.contains("$ref")) expand(branch, documents_.referred(id), path);
  if (const Json* all = documents_.find(id, "allOf")) {
    for (std::size_t i = 0; i < all->size(); ++i) expand(branch, documents_.below(id, "allOf", i), path);
  }
  if (const Json* inverse = documents_.find(id, "not")) {
    if (*inverse == true || *inverse == Json::object()) {
      branch.dead = true;
    } else if (*inverse != false) {
      fail(ErrorKind::kUnsupported, documents_.place_of(id, "not"), "\"not\" cannot be followed: say what is allowed");
    }
  }
  for (const char* keyword : {"anyOf", "oneOf"}) {
    if (schema.contains(keyword)) branch.choices.push_back({id, keyword, path});
  }
}

std::vector<Goal> SchemaGoals::resolve(Branch branch, bool check) {
  std::vector<Goal> done;
  std::vector<Branch> open = {std::move(branch)};
  while (!open.empty()) {
    Branch next = std::move(open.back());
    open.pop_back();
    if (next.dead) continue;
    if (next.choices.empty()) {
      done.push_back(std::move(next.plain));
      continue;
    }
    const Choice choice = std::move(next.choices.back());
    next.choices.pop_back();
    const std::size_t size = documents_.find(choice.holder, choice.keyword)->size();
    if (open.size() + size + done.size() > kMaxAlternatives) {
      fail(ErrorKind::kUnsupported, documents_.place_of(choice.holder, choice.keyword),
           "the combinations of anyOf and oneOf are more than {}: write fewer alternatives", kMaxAlternatives);
    }
    std::vector<SchemaId> options;
    for (std::size_t i = 0; i < size; ++i) options.push_back(documents_.below(choice.holder, choice.keyword, i));
    if (check && choice.keyword == std::string_view("oneOf")) check_one_of(next, choice, options);
    for (std::size_t i = size; i-- > 0;) {  // the first comes off the stack first
      // Those that die are neither open nor done, and may be 2^40.
      budget_.spend(kBranchSteps + next.plain.size() + next.choices.size(), documents_.place(choice.holder));
      open.push_back(next);
      expand(open.back(), options[i], choice.path);
    }
  }
  return done;
}

// An automaton can follow "at least one of"; that is "exactly one of" where no two can hold at once.
void SchemaGoals::check_one_of(const Branch& before, const Choice& choice, const std::vector<SchemaId>& options) {
  std::vector<std::vector<Goal>> resolved;
  for (const SchemaId option : options) {
    Branch branch;
    branch.plain = before.plain;
    expand(branch, option, choice.path);
    resolved.push_back(resolve(std::move(branch), false));
  }
  for (std::size_t i = 0; i < resolved.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      if (disjoint(resolved[j], resolved[i], 0)) continue;
      fail(
          ErrorKind::kUnsupported, documents_.place_of(choice.holder, "oneOf"),
          "{} and {} may hold at once, as far as can be seen: make them differ (in type, or by a required property with a const of "
          "its own), or use anyOf",
          j, i);
    }
  }
}

ValueRules SchemaGoals::rules_of(const Goal& plain) {
  ValueRules rules;
  rules.schemas = plain;
  if (!plain.empty()) budget_.spend(kSchemaSteps * plain.size(), documents_.place(plain.front()));
  for (const SchemaId id : plain) read_schema(id, rules);
  if ((rules.types & kNumbers) == kIntegerType) rules.numbers.whole = true;
  if (rules.length.empty()) rules.types &= ~kStringType;
  if (rules.items.empty()) rules.types &= ~kArrayType;
  if (rules.properties.empty()) rules.types &= ~kObjectType;
  for (const SchemaId id : plain) read_values(id, rules);
  return rules;
}

void SchemaGoals::read_schema(SchemaId id, ValueRules& rules) {
  const Json& schema = documents_.value(id);
  constexpr std::pair<const char*, unsigned> kAbout[] = {{"minLength", kStringType},
                                                         {"maxLength", kStringType},
                                                         {"pattern", kStringType},
                                                         {"minimum", kNumbers},
                                                         {"maximum", kNumbers},
                                                         {"exclusiveMinimum", kNumbers},
                                                         {"exclusiveMaximum", kNumbers},
                                                         {"multipleOf", kNumbers},
                                                         {"items", kArrayType},
                                                         {"prefixItems", kArrayType},
                                                         {"minItems", kArrayType},
                                                         {"maxItems", kArrayType},
                                                         {"uniqueItems", kArrayType},
                                                         {"properties", kObjectType},
                                                         {"patternProperties", kObjectType},
                                                         {"required", kObjectType},
                                                         {"additionalProperties", kObjectType},
                                                         {"propertyNames", kObjectType},
                                                         {"minProperties", kObjectType},
                                                         {"maxProperties", kObjectType}};
  for (const auto& [keyword, types] : kAbout) {
    if (schema.contains(keyword)) rules.mentioned |= types;
  }
  if (const Json* type = documents_.find(id, "type")) {
    rules.types &= types_of(*type);
    rules.typed = true;
  }
  constexpr std::pair<const char*, CountRange ValueRules::*> kCounts[] = {
      {"Length", &ValueRules::length}, {"Items", &ValueRules::items}, {"Properties", &ValueRules::properties}};
  for (const auto& [name, range] : kCounts) {
    if (const Json* min = documents_.find(id, "min" + std::string(name))) {
      (rules.*range).min = std::max((rules.*range).min, count_of(*min));
    }
    if (const Json* max = documents_.find(id, "max" + std::string(name))) {
      (rules.*range).max = std::min((rules.*range).max, count_of(*max));
    }
  }
  if (const Json* pattern = documents_.find(id, "pattern"))
    rules.patterns.push_back({pattern->get<std::string>(), documents_.place_of(id, "pattern"), false});
  read_format(id, rules);
  read_numbers(id, rules);
}

void SchemaGoals::read_format(SchemaId id, ValueRules& rules) {
  const Json* format = documents_.find(id, "format");
  if (format == nullptr) return;
  const std::string place = documents_.place_of(id, "format");
  const auto& name = format->get_ref<const std::string&>();
  if (name == "int32") {
    rules.numbers.low.push_back({-2147483648LL, false, place});
    rules.numbers.high.push_back({2147483647LL, false, place});
  }
  if (name == "int32" || name == "int64" || name == "float" || name == "double") {  // every number that is written fits the others
    rules.mentioned |= kNumbers;
    return;
  }
  const auto pattern = format_pattern(name);
  if (!pattern) {
    fail(ErrorKind::kUnsupported, place, "the format \"{}\" cannot be followed: there are {}", name, format_names());
  }
  rules.mentioned |= kStringType;
  rules.patterns.push_back({std::string(*pattern), place, true});
}

void SchemaGoals::read_numbers(SchemaId id, ValueRules& rules) {
  const auto add = [&](const char* keyword, std::vector<NumberBound>& bounds, bool exclusive) {
    if (const Json* bound = documents_.find(id, keyword)) bounds.push_back({*bound, exclusive, documents_.place_of(id, keyword)});
  };
  add("minimum", rules.numbers.low, false);
  add("exclusiveMinimum", rules.numbers.low, true);
  add("maximum", rules.numbers.high, false);
  add("exclusiveMaximum", rules.numbers.high, true);
  const Json* multiple = documents_.find(id, "multipleOf");
  if (multiple == nullptr) return;
  const bool whole = is_whole_number(*multiple) && multiple->get<double>() <= kMaxMultipleOf;
  const std::uint64_t common = whole ? std::lcm<std::uint64_t>(rules.numbers.multiple_of, multiple->get<std::uint64_t>()) : 0;
  if (common == 0 || common > kMaxMultipleOf) {
    fail(ErrorKind::kUnsupported, documents_.place_of(id, "multipleOf"),
         "only multiples of whole numbers up to {} can be counted, together where there are several", kMaxMultipleOf);
  }
  rules.numbers.multiple_of = static_cast<std::uint32_t>(common);
  rules.numbers.whole = true;
}

// Once everything else is known: what enum and const list, without what the rest forbids.
void SchemaGoals::read_values(SchemaId id, ValueRules& rules) {
  for (const char* keyword : {"enum", "const"}) {
    const Json* listed = documents_.find(id, keyword);
    if (listed == nullptr) continue;
    const bool one = keyword == std::string_view("const");
    const ListedValues known(rules.values.value_or(std::vector<Json>()));
    std::vector<Json> values;
    for (std::size_t i = 0; i < (one ? 1 : listed->size()); ++i) {
      const Json& value = one ? *listed : (*listed)[i];
      budget_.spend(value_steps(value), documents_.place(id));
      if (rules.values && !known.contains(value)) continue;
      const unsigned structured = type_of(value) & (kArrayType | kObjectType) & rules.types;
      if ((structured & rules.mentioned) != 0) {
        fail(ErrorKind::kUnsupported, documents_.place_of(id, keyword),
             "lists and objects beside keywords about their parts cannot be followed: leave these keywords out");
      }
      if (allows(rules, value)) values.push_back(value);
    }
    rules.values = std::move(values);
  }
}

// The rules on types, strings and numbers, values aside.
bool SchemaGoals::allows(const ValueRules& rules, const Json& value) {
  if ((rules.types & type_of(value)) == 0) return false;
  if (value.is_number()) {
    const std::size_t bounds = rules.numbers.low.size() + rules.numbers.high.size();
    if (bounds > 0) budget_.spend(CompileBudget::kNumberSteps * bounds, documents_.place(rules.schemas.front()));
    return in_range(rules.numbers, value);
  }
  if (!value.is_string()) return true;
  const auto& text = value.get_ref<const std::string&>();
  const std::size_t length = characters(text);
  return length >= rules.length.min && length <= rules.length.max &&
         std::ranges::all_of(rules.patterns, [&](const StringPattern& pattern) { return matches(pattern, text); });
}

bool SchemaGoals::matches(const StringPattern& pattern, const std::string& text) {
  budget_.spend(text_steps(text), pattern.place);
  return pattern_automaton(pattern).matches(text);
}

Goal SchemaGoals::member_goal(const Goal& plain, const std::string& name) {
  if (!plain.empty()) budget_.spend(plain.size(), documents_.place(plain.front()));
  Goal goal;
  for (const SchemaId id : plain) {
    bool known = false;
    if (const Json* properties = documents_.find(id, "properties"); properties != nullptr && properties->contains(name)) {
      goal.push_back(documents_.below(id, "properties", name));
      known = true;
    }
    if (const Json* patterns = documents_.find(id, "patternProperties")) {
      for (const auto& [pattern, schema] : patterns->items()) {
        if (!matches({pattern, documents_.place_of(id, "patternProperties"), false}, name)) continue;
        goal.push_back(documents_.below(id, "patternProperties", pattern));
        known = true;
      }
    }
    if (!known && documents_.find(id, "additionalProperties") != nullptr)
      goal.push_back(documents_.below(id, "additionalProperties"));
  }
  return goal;
}

Goal SchemaGoals::item_goal(const Goal& plain, std::size_t index) {
  if (!plain.empty()) budget_.spend(plain.size(), documents_.place(plain.front()));
  Goal goal;
  for (const SchemaId id : plain) {
    const Json* prefix = documents_.find(id, "prefixItems");
    if (prefix != nullptr && index < prefix->size()) {
      goal.push_back(documents_.below(id, "prefixItems", index));
    } else if (documents_.find(id, "items") != nullptr) {
      goal.push_back(documents_.below(id, "items"));
    }
  }
  return goal;
}

bool SchemaGoals::allows_name(const Goal& plain, const std::string& name) {
  if (!plain.empty()) budget_.spend(plain.size(), documents_.place(plain.front()));
  return std::ranges::all_of(plain, [&](SchemaId id) {
    if (documents_.find(id, "propertyNames") == nullptr) return true;
    const std::vector<Goal> options = alternatives({documents_.below(id, "propertyNames")});
    return std::ranges::any_of(options, [&](const Goal& option) {
      const ValueRules rules = rules_of(option);
      return allows(rules, name) && (!rules.values || std::ranges::count(*rules.values, Json(name)) > 0);
    });
  });
}

CharAutomaton SchemaGoals::strings_of(const ValueRules& rules) {
  const std::string where = rules.schemas.empty() ? "" : documents_.place(rules.schemas.front());
  CharAutomaton strings = rules.patterns.empty() ? CharAutomaton::anything() : pattern_automaton(rules.patterns.front());
  budget_.spend(strings.size(), where);
  for (std::size_t i = 1; i < rules.patterns.size(); ++i) {
    strings = strings.both(pattern_automaton(rules.patterns[i]), where);
    budget_.spend(strings.work(), where);
  }
  if (rules.length.min == 0 && rules.length.max == kUnlimited) return strings;
  strings = strings.both(CharAutomaton::of_length(rules.length.min, rules.length.max, where), where);
  budget_.spend(strings.work(), where);
  return strings;
}

const CharAutomaton& SchemaGoals::pattern_automaton(const StringPattern& pattern) {
  const auto key = std::pair(pattern.pattern, pattern.whole);
  const auto known = automata_.find(key);
  if (known != automata_.end()) return known->second;
  const Regex regex = parse_regex(pattern.pattern, pattern.place, pattern.whole ? RegexMatch::kWhole : RegexMatch::kPart);
  const auto added = automata_.emplace(key, CharAutomaton::from_expression(regex.tree, regex.root, pattern.place)).first;
  budget_.spend(added->second.work(), pattern.place);
  return added->second;
}

}  // namespace puna
