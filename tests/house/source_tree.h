// SPDX-License-Identifier: Apache-2.0
// The repository as data for the house's tests: its files, who includes whom, the floor table. Every check takes a root and returns
// complaints, so that it is itself tried on small trees that break its rule.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace puna::house {

using Complaints = std::vector<std::string>;

// Paths relative to `root`, sorted, of the files with one of these extensions below `folder`; build outputs and installed packages
// are left out.
std::vector<std::string> files_below(const std::filesystem::path& root, const std::string& folder,
                                     const std::vector<std::string>& extensions);
std::vector<std::string> lines_of(const std::filesystem::path& file);

// Folder of src/ -> floor, from the rows "| 3 | `src/kernels/` | ..." of docs/ARCHITECTURE.md.
std::map<std::string, int> floors(const std::filesystem::path& root);

// Each folder stands in the table and each row has its folder; every quoted include names a file below src/ that lies in the same
// folder, or in a folder on a lower floor that CMake links.
Complaints check_floors(const std::filesystem::path& root);
// Files that include each other in a circle.
Complaints check_circles(const std::filesystem::path& root);
// Two headers with one base name; sources of more than 800 lines; sources whose first lines lack the licence.
Complaints check_files(const std::filesystem::path& root);
// Links of Markdown pages that lead to no file or no heading.
Complaints check_links(const std::filesystem::path& root);

}  // namespace puna::house
