// SPDX-License-Identifier: Apache-2.0
// The verbs of the command line: one row each in verbs.cc, one file each in commands/. `puna --help`, `puna help`, the completion
// scripts, the man page and the test that each verb has a page in docs/guide/ all walk the same rows.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "cli/command.h"

namespace puna {

inline constexpr std::string_view kProgramAbout = "Train, run, measure, convert and quantize Llama-family models.";

struct Verb {
  std::string_view name;   // "prompt-format"
  std::string_view group;  // the heading it stands under in `puna --help`
  std::string_view about;  // one line
  // Declares the flags. The action that comes back owns what the flags are read into.
  VerbAction (*declare)(Command& command);
};
std::span<const Verb> verbs();

// Every verb with its flags.
std::vector<Command> declare_verbs();

}  // namespace puna
