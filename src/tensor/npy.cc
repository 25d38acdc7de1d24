// SPDX-License-Identifier: Apache-2.0
#include "tensor/npy.h"

#include <fmt/format.h>

#include <string>

#include "base/error.h"

namespace puna {
namespace {

// Version 1.0: magic, 2-byte header length, a Python dictionary padded with spaces and ended by a newline.
std::string npy_header(std::int64_t rows, std::int64_t columns) {
  std::string text = fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", rows, columns);
  text.resize(NpyWriter::kHeaderBytes - 10 - 1, ' ');
  text += '\n';
  std::string header = "\x93NUMPY\x01";
  header += '\0';
  header += static_cast<char>(text.size());
  header += '\0';
  return header + text;
}

}  // namespace

NpyWriter::NpyWriter(const std::filesystem::path& path, std::int64_t rows, std::int64_t columns)
    : path_(path), file_(path), columns_(columns), missing_(rows) {
  PUNA_CHECK(rows >= 0 && columns > 0, path.string(), "{} rows of {} values", rows, columns);
  file_.write(npy_header(rows, columns));
}

void NpyWriter::append(std::span<const float> rows) {
  PUNA_CHECK(static_cast<std::int64_t>(rows.size()) % columns_ == 0, path_.string(), "{} values are not whole rows of {}",
             rows.size(), columns_);
  file_.write(std::as_bytes(rows));
  missing_ -= static_cast<std::int64_t>(rows.size()) / columns_;
}

void NpyWriter::finish() {
  PUNA_CHECK(missing_ == 0, path_.string(), "{} rows are missing", missing_);
  file_.commit();
}

}  // namespace puna
