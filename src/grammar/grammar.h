// SPDX-License-Identifier: Apache-2.0
// A compiled grammar: a pushdown automaton over the bytes of UTF-8. Each rule is a piece of one nondeterministic automaton, with a
// state where it starts and one where it ends. Edges read a byte, read nothing, call a rule (what follows is pushed and comes off
// when the rule ends), or enter a counted repetition, which keeps its count on the stack, so that {1,100000} costs no more than
// {1,2}. Made by GrammarBuilder, which leaves no state from which the end cannot be reached; walked by Pushdown.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace puna {

inline constexpr std::uint32_t kUnlimited = 0xFFFFFFFFu;

enum class EdgeKind : std::uint8_t { kBytes, kEmpty, kCall, kEnter };

struct GrammarEdge {
  EdgeKind kind = EdgeKind::kEmpty;
  std::uint8_t first = 0, last = 0;  // kBytes: read one of these
  std::int32_t target = 0;           // kCall: where to go on after the rule; kEnter: the first state of the body
  std::int32_t callee = 0;           // kCall: the rule; kEnter: the repetition
};

struct GrammarState {
  std::uint32_t first_edge = 0, edge_count = 0;
  std::int32_t repeats = -1;  // the repetition whose body ends here
  std::int32_t height = 0;    // places on the stack that the end of the rule, or of the body, takes from here at least
  bool ends_rule = false;
  bool reads = false;         // has edges that read a byte
  bool only_returns = false;  // nothing but the end of its rule follows: a call that goes on here needs no place on the stack
};

// The body was read once more: then either `exit`, from `min` times on, or `again`, up to `max` times.
struct GrammarRepeat {
  std::int32_t again = 0, exit = 0;
  std::uint32_t min = 0, max = kUnlimited;
};

struct Grammar {
  std::vector<GrammarState> states;
  std::vector<GrammarEdge> edges;
  std::vector<GrammarRepeat> repeats;
  std::vector<std::int32_t> rule_starts;       // [rules] states
  std::int32_t start = 0;                      // a state
  int max_depth = 0;                           // places on the stack; what cannot end without more is not allowed
  std::array<std::uint8_t, 256> byte_class{};  // bytes that no edge tells apart have one class
  int byte_classes = 1;

  std::span<const GrammarEdge> edges_of(std::int32_t state) const {
    const GrammarState& from = states[static_cast<std::size_t>(state)];
    return std::span(edges).subspan(from.first_edge, from.edge_count);
  }
};

}  // namespace puna
