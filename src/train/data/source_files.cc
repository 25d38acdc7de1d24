// SPDX-License-Identifier: Apache-2.0
#include "train/data/source_files.h"

#include <glob.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>

#include "base/error.h"

namespace puna {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 6> kEndings = {".txt", ".md", ".jsonl", ".ndjson", ".json", ".bin"};

std::string lower_extension(const fs::path& path) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(), [](unsigned char c) { return std::tolower(c); });
  return extension;
}

std::vector<fs::path> data_files_below(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  fs::recursive_directory_iterator entry(folder, error), end;
  while (!error && entry != end) {
    const bool hidden = entry->path().filename().string().starts_with('.');
    std::error_code ignored;  // of one entry, which then counts as neither
    if (hidden && entry->is_directory(ignored)) entry.disable_recursion_pending();
    if (!hidden && entry->is_regular_file(ignored) &&
        std::find(kEndings.begin(), kEndings.end(), data_extension(entry->path())) != kEndings.end()) {
      files.push_back(entry->path());
    }
    entry.increment(error);
  }
  if (error) fail(ErrorKind::kNotFound, folder.string(), "cannot read the folder: {}", error.message());
  return files;
}

std::vector<fs::path> files_like(const std::string& pattern) {
  glob_t found{};
  const int result = ::glob(pattern.c_str(), 0, nullptr, &found);
  std::vector<fs::path> files;
  for (std::size_t i = 0; result == 0 && i < found.gl_pathc; ++i) {
    if (fs::is_regular_file(found.gl_pathv[i])) files.emplace_back(found.gl_pathv[i]);
  }
  ::globfree(&found);
  if (files.empty()) fail(ErrorKind::kNotFound, pattern, "no file matches this pattern");
  return files;
}

}  // namespace

std::string data_extension(const fs::path& path) {
  const std::string extension = lower_extension(path);
  return extension == ".gz" || extension == ".zst" ? lower_extension(path.stem()) : extension;
}

std::vector<fs::path> source_files(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  std::vector<fs::path> files;
  if (fs::is_directory(status)) {
    files = data_files_below(path);
    if (files.empty()) {
      fail(ErrorKind::kNotFound, path, "the folder has no files that end in {} (or these with .gz or .zst)",
           fmt::join(kEndings, ", "));
    }
  } else if (fs::exists(status)) {
    files = {path};
  } else if (path.find_first_of("*?[") != std::string::npos) {
    files = files_like(path);
  } else {
    fail(ErrorKind::kNotFound, path, "there is no such file or folder of training data");
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace puna
