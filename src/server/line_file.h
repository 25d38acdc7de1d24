// SPDX-License-Identifier: Apache-2.0
// Files of lines that somebody adds to while others read: metrics of a run, votes. A line without its end is being written, or was
// cut off by a crash or a full disk: it is nobody's.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace puna {

// Those that have their end; none where there is no file.
std::vector<std::string> complete_lines(const std::filesystem::path& path);

// Adds a line, on the disk when it returns, behind the last complete one: what was cut off before it goes. Throws kNoRoom where it
// cannot be written; the file is then as it was. One writer at a time.
void append_line(const std::filesystem::path& path, std::string_view line);

}  // namespace puna
