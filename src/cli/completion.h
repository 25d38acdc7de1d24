// SPDX-License-Identifier: Apache-2.0
// Completion scripts for bash, zsh and fish, written from the table of verbs and their flags. Where a model is wanted they offer
// files and what `puna list --names` prints.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace puna {

// Throws kUsage for a shell that is not one of the three.
std::string completion_script(const CLI::App& app, const std::string& shell);

}  // namespace puna
