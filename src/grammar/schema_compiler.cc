// SPDX-License-Identifier: Apache-2.0
#include "grammar/schema_compiler.h"

#include <algorithm>
#include <bit>
#include <unordered_map>

#include "base/error.h"
#include "grammar/json_schema.h"
#include "grammar/regex.h"

namespace puna {
namespace {

// The fewest and the most characters of a text that matches; nothing where there is none, kUnlimited for no end. Each expression is
// measured once: resolving anchors lets several share one part.
class TextLengths {
 public:
  explicit TextLengths(const ExpressionTree& tree) : tree_(tree) {}

  std::optional<CountRange> of(ExpressionId id) {
    if (const auto known = known_.find(id); known != known_.end()) return known->second;
    return known_[id] = measured(tree_.at(id));
  }

 private:
  std::optional<CountRange> measured(const Expression& expression);

  const ExpressionTree& tree_;
  std::unordered_map<ExpressionId, std::optional<CountRange>> known_;
};

std::optional<CountRange> TextLengths::measured(const Expression& expression) {
  const auto plus = [](std::uint32_t a, std::uint32_t b) { return a >= kUnlimited - b ? kUnlimited : a + b; };
  const auto times = [](std::uint32_t a, std::uint32_t b) {
    const std::uint64_t product = static_cast<std::uint64_t>(a) * b;
    return a != 0 && (b == kUnlimited || product >= kUnlimited) ? kUnlimited : static_cast<std::uint32_t>(product);
  };
  switch (expression.kind) {
    case ExpressionKind::kSequence: {
      CountRange sum{0, 0};
      for (const ExpressionId part : expression.parts) {
        const auto length = of(part);
        if (!length) return std::nullopt;
        sum = {plus(sum.min, length->min), plus(sum.max, length->max)};
      }
      return sum;
    }
    case ExpressionKind::kChoice: {
      std::optional<CountRange> all;
      for (const ExpressionId part : expression.parts) {
        const auto length = of(part);
        if (!length) continue;
        all = all ? CountRange{std::min(all->min, length->min), std::max(all->max, length->max)} : *length;
      }
      return all;
    }
    case ExpressionKind::kRepeat: {
      const auto length = of(expression.parts.front());
      if (!length) return expression.min == 0 ? std::optional(CountRange{0, 0}) : std::nullopt;
      return CountRange{times(length->min, expression.min), times(length->max, expression.max)};
    }
    default:
      if (expression.chars.empty()) return std::nullopt;
      return CountRange{1, 1};
  }
}

// Sequences within sequences as one.
void flatten(const ExpressionTree& tree, ExpressionId id, std::vector<ExpressionId>& parts) {
  if (tree.at(id).kind != ExpressionKind::kSequence) return parts.push_back(id);
  for (const ExpressionId part : tree.at(id).parts) flatten(tree, part, parts);
}

// Changes the expression so that it matches texts of these lengths only, where the count of one repetition decides the length:
// [a-z][a-z0-9]* of at most 8 characters is [a-z][a-z0-9]{0,7}. False where it does not.
bool limit_length(Regex& regex, CountRange length) {
  std::vector<ExpressionId> parts;
  flatten(regex.tree, regex.root, parts);
  std::uint32_t fixed = 0;
  Expression* repeat = nullptr;
  TextLengths lengths(regex.tree);
  for (const ExpressionId id : parts) {
    Expression& part = regex.tree.at(id);
    const auto own = lengths.of(id);
    if (!own) return false;
    if (own->min == own->max) {
      fixed += own->min;
    } else if (repeat == nullptr && part.kind == ExpressionKind::kRepeat &&
               regex.tree.at(part.parts.front()).kind == ExpressionKind::kChars) {
      repeat = &part;
    } else {
      return false;
    }
  }
  if (repeat == nullptr || fixed > length.max) return false;
  repeat->min = std::max(repeat->min, length.min > fixed ? length.min - fixed : 0);
  if (length.max != kUnlimited) repeat->max = std::min(repeat->max, length.max - fixed);
  return repeat->min <= repeat->max;
}

}  // namespace

int SchemaCompiler::rule_of(const Goal& goal) {
  Goal key = goal;
  std::sort(key.begin(), key.end());
  key.erase(std::unique(key.begin(), key.end()), key.end());
  const auto [known, fresh] = rules_.try_emplace(std::move(key), 0);
  if (fresh) {
    known->second = builder_.add_rule(goal.empty() ? "any value" : documents_.place(goal.front()));
    open_.emplace_back(goal, known->second);
  }
  return known->second;
}

void SchemaCompiler::finish() {
  while (!open_.empty()) {
    const auto [goal, rule] = std::move(open_.back());
    open_.pop_back();
    for (const Goal& plain : goals_.alternatives(goal)) write_alternative(plain, builder_.start_of(rule), builder_.end_of(rule));
  }
}

void SchemaCompiler::write_alternative(const Goal& plain, int start, int end) {
  const ValueRules rules = goals_.rules_of(plain);
  if (rules.values) return write_values(*rules.values, start, end);
  unsigned types = rules.types;
  const unsigned mentioned = (rules.mentioned & kNumbers) != 0 ? rules.mentioned | kNumbers : rules.mentioned;
  const bool about_one = mentioned == kNumbers || std::has_single_bit(mentioned);
  if (!rules.typed && about_one) types &= mentioned;
  if ((types & kNullType) != 0) builder_.add_empty(builder_.add_text(start, "null"), end);
  if ((types & kBooleanType) != 0) builder_.add_texts(start, {"false", "true"}, end);
  if ((types & kNumbers) != 0) {
    int last = 0;
    if (rules.numbers.bounded()) {
      last = add_number_range(builder_, start, rules.numbers);
    } else {
      last = rules.numbers.whole ? text_.add_integer(start) : text_.add_number(start);
    }
    builder_.add_empty(last, end);
  }
  if ((types & kStringType) != 0) builder_.add_empty(write_string(rules, start), end);
  if ((types & kArrayType) != 0) write_array(rules, start, end);
  if ((types & kObjectType) != 0) write_object(rules, start, end);
}

void SchemaCompiler::write_values(const std::vector<Json>& values, int start, int end) {
  std::vector<std::string> scalars;
  for (const Json& value : values) {
    if (value.is_structured()) {
      builder_.add_empty(text_.add_value(start, value), end);
    } else {
      scalars.push_back(dump_json(value));
    }
  }
  builder_.add_texts(start, std::move(scalars), end);
}

int SchemaCompiler::write_string(const ValueRules& rules, int from) {
  const CountRange length = rules.length;
  const bool any_length = length.min == 0 && length.max == kUnlimited;
  if (rules.patterns.empty()) return any_length ? text_.add_string(from) : text_.add_string_of_length(from, length.min, length.max);
  if (rules.patterns.size() == 1) {
    const StringPattern& pattern = rules.patterns.front();
    Regex regex = parse_regex(pattern.pattern, pattern.place, pattern.whole ? RegexMatch::kWhole : RegexMatch::kPart);
    const auto own = TextLengths(regex.tree).of(regex.root);
    const bool implied = !own || (own->min >= length.min && own->max <= length.max);
    if (implied || limit_length(regex, length)) {  // the compact way: repetitions stay counted
      const int open = builder_.add_text(from, "\"");
      return builder_.add_text(add_expression(builder_, regex.tree, regex.root, open, spell_in_json), "\"");
    }
  }
  const int open = builder_.add_text(from, "\"");
  return builder_.add_text(goals_.strings_of(rules).add_to(builder_, open, spell_in_json), "\"");
}

// [ first, second, … ]: behind each item a comma and the next, or the end where enough are there.
void SchemaCompiler::write_array(const ValueRules& rules, int start, int end) {
  std::size_t prefix = 0;
  bool has_items = false;
  for (const SchemaId id : rules.schemas) {
    if (const Json* list = documents_.find(id, "prefixItems")) prefix = std::max(prefix, list->size());
    has_items = has_items || documents_.find(id, "items") != nullptr;
    const Json* unique = documents_.find(id, "uniqueItems");
    if (unique != nullptr && *unique == true && rules.items.max > 1) {
      fail(ErrorKind::kUnsupported, documents_.place_of(id, "uniqueItems"),
           "that all items differ cannot be followed: leave it out, or allow one item at most");
    }
  }
  CountRange count = rules.items;
  const std::uint32_t listed = static_cast<std::uint32_t>(std::min<std::size_t>(prefix, count.max));
  if (prefix > 0 && !has_items) count.max = std::min(count.max, std::max(count.min, listed));
  const int closing = builder_.add_state();
  builder_.add_empty(builder_.add_text(text_.add_space(closing), "]"), end);
  const int open = builder_.add_text(start, "[");
  if (count.min == 0) builder_.add_empty(open, closing);
  if (count.max == 0) return;
  int item = text_.add_space(open);
  for (std::uint32_t i = 0; i < listed; ++i) {
    const int after = builder_.add_call(item, rule_of(goals_.item_goal(rules.schemas, i)));
    if (i + 1 >= count.min) builder_.add_empty(after, closing);
    item = text_.add_space(builder_.add_text(after, ","));
  }
  if (listed == count.max) return;
  const int body = builder_.add_state(), again = builder_.add_state();
  const int body_end = builder_.add_call(body, rule_of(goals_.item_goal(rules.schemas, prefix)));
  builder_.add_empty(text_.add_space(builder_.add_text(again, ",")), body);
  const std::uint32_t min = count.min > listed ? count.min - listed : 1,
                      max = count.max == kUnlimited ? kUnlimited : count.max - listed;
  builder_.add_empty(builder_.add_repeat(item, body, body_end, again, min, max), closing);
}

Grammar json_schema_grammar(const Json& schema, const std::string& where) {
  GrammarBuilder builder(where);
  SchemaCompiler compiler(builder);
  const int root = compiler.rule_of({compiler.add_document(schema, where)});
  compiler.finish();
  return builder.finish(root, kMaxJsonNesting);
}

Grammar json_object_grammar() { return json_schema_grammar({{"type", "object"}}, "json_object"); }

}  // namespace puna
