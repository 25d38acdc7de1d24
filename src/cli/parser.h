// SPDX-License-Identifier: Apache-2.0
// The words of the command line, read into the places that the verbs' flags name. CLI11 does the reading and lays out the help.
#pragma once

#include <string>

#include "cli/command.h"

namespace puna {

// The action of the verb that was given, its flags read; empty where help or the version was asked for and has been printed.
// Throws kUsage, naming the nearest flag or verb for one that is not there.
VerbAction parse_command_line(int argc, const char* const* argv);

// What `puna --help` prints; with a verb, what `puna VERB --help` prints.
std::string help_text(const std::string& verb = {});

}  // namespace puna
