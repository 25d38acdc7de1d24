// SPDX-License-Identifier: Apache-2.0
#include "grammar/expression.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "base/error.h"

namespace puna {

void spell_plain(GrammarBuilder& builder, int from, const CharSet& set, int to) { builder.add_chars(from, set, to); }

int add_expression(GrammarBuilder& builder, const ExpressionTree& tree, ExpressionId id, int from, SpellChars spell) {
  const Expression& expression = tree.at(id);
  switch (expression.kind) {
    case ExpressionKind::kSequence:
      for (const ExpressionId part : expression.parts) from = add_expression(builder, tree, part, from, spell);
      return from;
    case ExpressionKind::kChoice: {
      const int to = builder.add_state();
      for (const ExpressionId part : expression.parts) {
        const int begin = builder.add_state();
        builder.add_empty(from, begin);
        builder.add_empty(add_expression(builder, tree, part, begin, spell), to);
      }
      return to;
    }
    case ExpressionKind::kChars: {
      const int to = builder.add_state();
      spell(builder, from, expression.chars, to);
      return to;
    }
    case ExpressionKind::kRepeat: {
      if (expression.max == 0) return from;
      const int body = builder.add_state();
      const int end = add_expression(builder, tree, expression.parts.front(), body, spell);
      return builder.add_repeat(from, body, end, body, expression.min, expression.max);
    }
    case ExpressionKind::kRule:
      return builder.add_call(from, expression.rule);
    case ExpressionKind::kTextStart:
    case ExpressionKind::kTextEnd:
      break;
  }
  fail(ErrorKind::kInternal, builder.where(), "an anchor was not resolved");
}

namespace {

// Each expression is looked at once: several may share one part.
class EmptyTexts {
 public:
  EmptyTexts(const ExpressionTree& tree, ExpressionId root) : tree_(tree), known_(static_cast<std::size_t>(root) + 1) {}

  bool matches(ExpressionId id) {
    std::optional<bool>& known = known_[static_cast<std::size_t>(id)];
    if (!known) known = looked_at(tree_.at(id));
    return *known;
  }

 private:
  bool looked_at(const Expression& expression) {
    const auto empty = [&](ExpressionId part) { return matches(part); };
    switch (expression.kind) {
      case ExpressionKind::kSequence:
        return std::ranges::all_of(expression.parts, empty);
      case ExpressionKind::kChoice:
        return std::ranges::any_of(expression.parts, empty);
      case ExpressionKind::kRepeat:
        return expression.min == 0 || empty(expression.parts.front());
      default:
        return false;
    }
  }

  const ExpressionTree& tree_;
  std::vector<std::optional<bool>> known_;  // [expressions up to the root]: parts are older than what holds them
};

}  // namespace

bool matches_empty(const ExpressionTree& tree, ExpressionId id) { return EmptyTexts(tree, id).matches(id); }

}  // namespace puna
