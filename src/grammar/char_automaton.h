// SPDX-License-Identifier: Apache-2.0
// Sets of texts as deterministic automata over characters: what the schema compiler computes with, where a text must satisfy two
// things at once, or not satisfy one. All functions throw kUnsupported naming `where` for what needs more than kMaxStates.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/expression.h"

namespace puna {

class CharAutomaton {
 public:
  static CharAutomaton from_expression(const ExpressionTree& tree, ExpressionId root, const std::string& where);
  static CharAutomaton of_texts(std::span<const std::string> texts, const std::string& where);     // exactly these, in UTF-8
  static CharAutomaton of_length(std::uint32_t min, std::uint32_t max, const std::string& where);  // in characters
  static CharAutomaton anything();

  CharAutomaton both(const CharAutomaton& other, const std::string& where) const;
  CharAutomaton complement() const;
  bool matches(std::string_view text) const;  // false for what is not UTF-8
  bool empty() const;                         // no text at all
  std::size_t work() const { return work_; }  // states and steps that were looked at to make it
  std::size_t size() const;                   // in states and steps

  // Adds the texts behind `from`, and returns the state behind them.
  int add_to(GrammarBuilder& builder, int from, SpellChars spell) const;

  static constexpr std::size_t kMaxStates = 30'000;

 private:
  struct Step {
    CharRange range;
    int target = 0;
  };
  struct State {
    std::vector<Step> steps;  // by ascending range; what no range holds leads nowhere
    bool accepts = false;
  };
  int add_state(const std::string& where);

  std::vector<State> states_;  // the first is where texts begin
  std::size_t work_ = 0;
};

}  // namespace puna
