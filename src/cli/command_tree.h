// SPDX-License-Identifier: Apache-2.0
// The verbs and flags as plain data, read off the CLI11 app: what the completion scripts, the man page and the test of the guide
// walk, so that there is one list of flags only.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace puna {

struct FlagInfo {
  std::vector<std::string> names;  // "-t", "--threads"; the bare name of a positional
  std::string about, value;        // value: "N", "FILE", "f32|f16|q8_0"; empty for a switch
  bool takes_value = false, positional = false, required = false;

  std::vector<std::string> choices() const;  // of a value with bars, else none
  bool takes_file() const;                   // completes to file names
};

struct VerbInfo {
  std::string name, group, about, notes;
  std::vector<FlagInfo> flags;  // help among them
};

std::vector<VerbInfo> describe_verbs(const CLI::App& app);

}  // namespace puna
