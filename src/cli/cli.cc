// SPDX-License-Identifier: Apache-2.0
#include "cli/cli.h"

namespace puna {

int run_command_line(int, char**) { return 0; }

}  // namespace puna
