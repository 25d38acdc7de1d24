// SPDX-License-Identifier: Apache-2.0
// What an answer may look like, from the command line: --json-schema, --regex and --grammar.
#pragma once

#include <string>

#include "cli/command.h"
#include "grammar/grammar.h"

namespace puna {

struct GrammarFlags {
  std::string json_schema, regex, grammar;
  bool given() const { return !json_schema.empty() || !regex.empty() || !grammar.empty(); }
};
void add_grammar_flags(Command& command, GrammarFlags& flags);
// Throws kUsage where more than one is given.
Grammar grammar_of(const GrammarFlags& flags);

}  // namespace puna
