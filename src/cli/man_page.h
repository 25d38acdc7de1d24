// SPDX-License-Identifier: Apache-2.0
// The manual page puna(1), written from the table of verbs and their flags.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace puna {

std::string man_page(const CLI::App& app);  // roff, man macros

}  // namespace puna
