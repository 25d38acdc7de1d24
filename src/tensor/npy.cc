// SPDX-License-Identifier: Apache-2.0
#include "tensor/npy.h"

#include <fmt/format.h>

#include <string>

#include "base/error.h"

namespace puna {
namespace {

constexpr std::size_t kHeaderBytes = 128;  // holds any row count, so the header can be rewritten in place

}  // namespace

NpyWriter::NpyWriter(const std::filesystem::path& path, std::int64_t columns)
    : path_(path), file_(path, std::ios::binary | std::ios::trunc), columns_(columns) {
  PUNA_CHECK(columns > 0, path.string(), "rows of {} values", columns);
  write_header();
}

// Version 1.0: magic, 2-byte header length, a Python dictionary padded with spaces and ended by a newline.
void NpyWriter::write_header() {
  std::string text = fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", rows_, columns_);
  text.resize(kHeaderBytes - 10 - 1, ' ');
  text += '\n';
  std::string header = "\x93NUMPY\x01";
  header += '\0';
  header += static_cast<char>(text.size());
  header += '\0';
  header += text;
  file_.write(header.data(), static_cast<std::streamsize>(header.size()));
  if (!file_) fail(ErrorKind::kBadInput, path_.string(), "cannot write the file: check the folder and the space left");
}

void NpyWriter::append(std::span<const float> rows) {
  PUNA_CHECK(static_cast<std::int64_t>(rows.size()) % columns_ == 0, path_.string(), "{} values are not whole rows of {}",
             rows.size(), columns_);
  file_.write(reinterpret_cast<const char*>(rows.data()), static_cast<std::streamsize>(rows.size_bytes()));
  if (!file_) fail(ErrorKind::kBadInput, path_.string(), "cannot write the file: check the space left on the disk");
  rows_ += static_cast<std::int64_t>(rows.size()) / columns_;
}

void NpyWriter::finish() {
  file_.seekp(0);
  write_header();
  file_.close();
  if (!file_) fail(ErrorKind::kBadInput, path_.string(), "cannot write the file: check the space left on the disk");
}

}  // namespace puna
