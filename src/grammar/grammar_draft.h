// SPDX-License-Identifier: Apache-2.0
// A grammar while it is built: states, what leads from one to another, rules and counted repetitions, in the order they were added.
// grammar_builder.h adds to it, grammar_analysis.h says what must be known before it can run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "grammar/grammar.h"

namespace puna {

struct GrammarDraft {
  struct Rule {
    std::string name;  // for messages
    int start = 0, end = 0;
  };
  struct Edge {
    GrammarEdge edge;
    int from = 0;
  };
  struct Repeat {
    GrammarRepeat repeat;
    int body = 0, end = 0;
  };

  static constexpr std::uint32_t kMaxEmptyRepeats = 64;  // of what may be empty

  std::string where;  // the source, for messages
  int states = 0;
  std::vector<Edge> edges;
  std::vector<Rule> rules;
  std::vector<Repeat> repeats;
};

}  // namespace puna
