// SPDX-License-Identifier: Apache-2.0
// What regular expressions and the rules of GBNF are made of, as a tree: characters, sequences, choices, repetitions, rules.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "grammar/char_set.h"
#include "grammar/grammar_builder.h"

namespace puna {

enum class ExpressionKind : std::uint8_t { kSequence, kChoice, kChars, kRepeat, kRule, kTextStart, kTextEnd };

using ExpressionId = int;

struct Expression {
  ExpressionKind kind = ExpressionKind::kSequence;  // a sequence of no parts is the empty text, a choice of none is nothing at all
  std::vector<ExpressionId> parts;                  // kRepeat: the one that is repeated
  CharSet chars;                                    // kChars: one of them
  std::uint32_t min = 0, max = 0;                   // kRepeat; kUnlimited
  int rule = 0;                                     // kRule: of a GrammarBuilder
  std::size_t position = 0;                         // in the text it was read from
};

class ExpressionTree {
 public:
  ExpressionId sequence(std::vector<ExpressionId> parts) { return add(ExpressionKind::kSequence, std::move(parts)); }
  ExpressionId choice(std::vector<ExpressionId> parts) { return add(ExpressionKind::kChoice, std::move(parts)); }
  ExpressionId chars(CharSet set) {
    const ExpressionId id = add(ExpressionKind::kChars, {});
    at(id).chars = std::move(set);
    return id;
  }
  ExpressionId repeat(ExpressionId part, std::uint32_t min, std::uint32_t max) {
    const ExpressionId id = add(ExpressionKind::kRepeat, {part});
    at(id).min = min, at(id).max = max;
    return id;
  }
  ExpressionId rule(int number) {
    const ExpressionId id = add(ExpressionKind::kRule, {});
    at(id).rule = number;
    return id;
  }
  ExpressionId anchor(ExpressionKind kind) { return add(kind, {}); }
  ExpressionId empty_text() { return sequence({}); }

  Expression& at(ExpressionId id) { return nodes_[static_cast<std::size_t>(id)]; }
  const Expression& at(ExpressionId id) const { return nodes_[static_cast<std::size_t>(id)]; }

 private:
  ExpressionId add(ExpressionKind kind, std::vector<ExpressionId> parts) {
    Expression& expression = nodes_.emplace_back();
    expression.kind = kind;
    expression.parts = std::move(parts);
    return static_cast<ExpressionId>(nodes_.size()) - 1;
  }

  std::vector<Expression> nodes_;
};

// How one character of a set is spelled between two states: as itself (GrammarBuilder::add_chars), or as a JSON string spells it.
using SpellChars = void (*)(GrammarBuilder& builder, int from, const CharSet& set, int to);
void spell_plain(GrammarBuilder& builder, int from, const CharSet& set, int to);

// Adds the expression, which holds no anchors, behind `from`, and returns the state behind it. Goes as deep as the tree, which its
// readers bound.
int add_expression(GrammarBuilder& builder, const ExpressionTree& tree, ExpressionId id, int from, SpellChars spell);

// The tree matches the empty text. No anchors, no rules.
bool matches_empty(const ExpressionTree& tree, ExpressionId id);

}  // namespace puna
