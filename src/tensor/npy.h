// SPDX-License-Identifier: Apache-2.0
// NumPy's .npy files, float32, C order: written row by row.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>

namespace puna {

class NpyWriter {
 public:
  // Rows of `columns` values; the row count is filled in by finish(). Throws kBadInput when the file cannot be written.
  NpyWriter(const std::filesystem::path& path, std::int64_t columns);
  void append(std::span<const float> rows);  // a whole number of rows
  void finish();

 private:
  void write_header();

  std::filesystem::path path_;
  std::ofstream file_;
  std::int64_t columns_, rows_ = 0;
};

}  // namespace puna
