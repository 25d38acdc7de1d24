// SPDX-License-Identifier: Apache-2.0
// A verb's flags in a file: YAML whose keys are the flags' names without the dashes.
#pragma once

#include <map>
#include <string>

#include "cli/command.h"

namespace puna {

// Sets the flags that the file names and `given` (by the flag's last name) says nothing of; marks them given. Throws kBadInput with
// the line for a key that is no flag, or a value that is not of its kind or range; kNotFound for a missing file.
void apply_config_file(const Command& command, const std::string& path, std::map<std::string, bool>& given);

}  // namespace puna
