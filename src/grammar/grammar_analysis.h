// SPDX-License-Identifier: Apache-2.0
// What must be known of a grammar before it can run: which states can reach the end at all, and how much of the stack that takes at
// least; and that no rule begins with itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "grammar/grammar_draft.h"

namespace puna {

// Numbers in groups, group after group.
class GroupedNumbers {
 public:
  // The numbers 0 .. size - 1, each in the group that `group_of` names.
  template <typename GroupOf>
  GroupedNumbers(int groups, std::size_t size, GroupOf group_of) : first_(static_cast<std::size_t>(groups) + 1), numbers_(size) {
    for (std::size_t i = 0; i < size; ++i) ++first_[static_cast<std::size_t>(group_of(i)) + 1];
    for (std::size_t g = 1; g < first_.size(); ++g) first_[g] += first_[g - 1];
    std::vector<std::uint32_t> next(first_.begin(), first_.end() - 1);
    for (std::size_t i = 0; i < size; ++i) numbers_[next[static_cast<std::size_t>(group_of(i))]++] = static_cast<std::uint32_t>(i);
  }
  std::span<const std::uint32_t> of(int group) const {
    const auto g = static_cast<std::size_t>(group);
    return std::span(numbers_).subspan(first_[g], first_[g + 1] - first_[g]);
  }

 private:
  std::vector<std::uint32_t> first_, numbers_;
};

class GrammarAnalysis {
 public:
  // The draft outlives it.
  explicit GrammarAnalysis(const GrammarDraft& draft);

  // [states] places on the stack that the shortest way to the end of the rule, or of the repetition, takes beyond those at the
  // state itself; kNever where no text leads there. By Knuth's generalisation of Dijkstra's algorithm (1977).
  std::vector<int> heights() const;
  static constexpr int kNever = 1 << 30;
  // [states] nothing but the end of the rule follows.
  std::vector<bool> only_returning() const;
  // Throws kUnsupported naming the rules of a circle that reads nothing: the automaton would push for ever.
  void refuse_left_recursion() const;
  // Throws kUnsupported for counted repetitions of more than kMaxEmptyRepeats times what may be empty: all counts would be possible
  // at once.
  void refuse_empty_repeats() const;

 private:
  std::vector<bool> nullable_rules() const;
  // Visits the states that are reached from `state` without reading.
  template <typename Visit>
  void visit_unread(int state, int stop, Visit visit) const;

  const GrammarDraft::Edge& edge(std::uint32_t number) const { return draft_.edges[number]; }
  const GrammarDraft::Repeat& repeat(std::uint32_t number) const { return draft_.repeats[number]; }

  const GrammarDraft& draft_;

  GroupedNumbers out_, in_;              // edges, by state
  GroupedNumbers ending_;                // repetitions, by the state where their body ends
  GroupedNumbers exiting_, continuing_;  // repetitions, by the state behind them, and by the one where they go on again
  GroupedNumbers starting_;              // rules, by the state where they start
  std::vector<bool> nullable_;           // [rules]
};

}  // namespace puna
