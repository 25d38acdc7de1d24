// SPDX-License-Identifier: Apache-2.0
// The manual page puna(1), written from the table of verbs and their flags.
#pragma once

#include <span>
#include <string>

#include "cli/command.h"

namespace puna {

std::string man_page(std::span<const Command> verbs);  // roff, man macros

}  // namespace puna
