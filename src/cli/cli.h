// SPDX-License-Identifier: Apache-2.0
// The front door: parses the command line, runs one verb, turns an Error into its message and exit code (docs/guide/exit-codes.md).
#pragma once

namespace puna {

int run_command_line(int argc, char** argv);

}  // namespace puna
