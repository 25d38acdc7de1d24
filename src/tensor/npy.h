// SPDX-License-Identifier: Apache-2.0
// NumPy's .npy files, float32, C order: written row by row, and under their name when they are complete.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>

#include "tensor/atomic_file.h"

namespace puna {

class NpyWriter {
 public:
  static constexpr std::int64_t kHeaderBytes = 128;

  // `rows` of `columns` values. Throws as AtomicFile does.
  NpyWriter(const std::filesystem::path& path, std::int64_t rows, std::int64_t columns);
  void append(std::span<const float> rows);  // a whole number of rows
  void finish();                             // once all are there

 private:
  std::filesystem::path path_;
  AtomicFile file_;
  std::int64_t columns_, missing_;  // missing: rows that are still to come
};

}  // namespace puna
