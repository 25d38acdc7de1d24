// SPDX-License-Identifier: Apache-2.0
// Completion scripts for bash, zsh and fish, written from the table of verbs and their flags. Where a model is wanted they offer
// files and what `puna list --names` prints.
#pragma once

#include <span>
#include <string>

#include "cli/command.h"

namespace puna {

// Throws kUsage for a shell that is not one of the three.
std::string completion_script(std::span<const Command> verbs, const std::string& shell);

}  // namespace puna
