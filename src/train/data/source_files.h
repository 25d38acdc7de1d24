// SPDX-License-Identifier: Apache-2.0
// The files that a source's path stands for, in the order of their names: the order of the data must not depend on the file system.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace puna {

// A file: itself. A folder: all files below it that end in .txt, .md, .jsonl, .ndjson, .json or .bin, also with .gz or .zst behind;
// hidden ones are left out. A pattern (*, ?, […]): the files that match, whatever their ending.
// Throws kNotFound where that is nothing.
std::vector<std::filesystem::path> source_files(const std::string& path);

// The ending without a compression's: ".jsonl" for "a.jsonl.gz". Lower case.
std::string data_extension(const std::filesystem::path& path);

}  // namespace puna
