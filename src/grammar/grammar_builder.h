// SPDX-License-Identifier: Apache-2.0
// Builds a Grammar state by state; what the readers of regular expressions, GBNF and JSON schemas share. Most functions begin at a
// state `from` and either end at a given state or return the state where they end.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/char_set.h"
#include "grammar/grammar_draft.h"

namespace puna {

class GrammarBuilder {
 public:
  // `where` names the source in messages.
  explicit GrammarBuilder(std::string where)
      : draft_{.where = std::move(where), .states = 0, .edges = {}, .rules = {}, .repeats = {}} {}

  // Throws kUnsupported where there are more than kMaxStates.
  int add_state();
  // `name` stands in messages, with the place of the rule where it has one: "rule 'expr' (line 3)".
  int add_rule(std::string name);
  int start_of(int rule) const { return draft_.rules[static_cast<std::size_t>(rule)].start; }
  int end_of(int rule) const { return draft_.rules[static_cast<std::size_t>(rule)].end; }

  void add_empty(int from, int to);
  void add_bytes(int from, std::uint8_t first, std::uint8_t last, int to);
  void add_chars(int from, const CharSet& set, int to);  // one character of the set, in UTF-8
  int add_text(int from, std::string_view bytes);
  void add_texts(int from, std::vector<std::string> texts, int to);  // one of them; beginnings in common are shared
  int add_call(int from, int rule);
  // `min` to `max` times what leads from `body` to `body_end`; between two times what leads from `again` to `body`, which may be
  // `body` itself. max >= 1.
  int add_repeat(int from, int body, int body_end, int again, std::uint32_t min, std::uint32_t max);

  // The automaton that begins with `root`, without what cannot reach the end. Throws kBadInput where no text at all is left,
  // kUnsupported for left recursion, for long counted repetitions of what may be empty, and where every text nests too deep.
  Grammar finish(int root, int max_depth);

  const std::string& where() const { return draft_.where; }

  static constexpr int kMaxStates = 400'000;

 private:
  void add_edge(int from, const GrammarEdge& edge);
  Grammar indexed(int root, int max_depth, const std::vector<int>& heights) const;

  GrammarDraft draft_;
};

}  // namespace puna
