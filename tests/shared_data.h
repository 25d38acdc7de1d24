// SPDX-License-Identifier: Apache-2.0
// Where tests find files: golden values in the repository, and the data folder beside it, which may be absent.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace puna {

inline std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(PUNA_SOURCE_DIR) / "tests" / "golden" / name;
}

inline std::filesystem::path shared_data(const std::string& name) {
  return std::filesystem::path(PUNA_SOURCE_DIR).parent_path() / "shared" / "data" / name;
}

inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace puna

// Ends the test as skipped where ../shared/data/<name> is not there.
#define PUNA_NEEDS_SHARED(name) \
  if (!std::filesystem::exists(::puna::shared_data(name))) GTEST_SKIP() << "needs ../shared/data/" << (name)
