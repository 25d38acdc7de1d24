// SPDX-License-Identifier: Apache-2.0
#include "train/data/source.h"

#include <algorithm>

#include "base/error.h"
#include "train/data/row.h"
#include "train/data/source_files.h"

namespace puna {

Source::Source(const DataSource& given, const DataOptions& options) : path_(given.path), first_rows_{0} {
  for (const auto& path : source_files(given.path)) {
    files_.emplace_back(path, given.kind, options);
    first_rows_.push_back(first_rows_.back() + files_.back().rows());
  }
  if (rows() == 0) fail(ErrorKind::kBadInput, path_, "there are no rows to train on: the data is empty");
}

std::int64_t Source::bytes() const {
  std::int64_t bytes = 0;
  for (const RowFile& file : files_) bytes += file.bytes();
  return bytes;
}

Source::Place Source::place(std::int64_t row) const {
  const auto file = std::upper_bound(first_rows_.begin(), first_rows_.end(), row) - first_rows_.begin() - 1;
  return {files_[static_cast<std::size_t>(file)], row - first_rows_[static_cast<std::size_t>(file)]};
}

std::string Source::where(std::int64_t row) const {
  const Place at = place(row);
  return at.file.where(at.row);
}

Example Source::read(std::int64_t row, const ExampleEncoder& encoder, bool plain_strings) const {
  const auto [file, at] = place(row);
  if (const TokenShard* shard = file.shard()) return encoder.encode_document(shard->document(at));
  if (const TeacherShard* teacher = file.teacher()) return encoder.encode_taught(*teacher, at);
  if (file.kind() != DataKind::kText) return encoder.encode(read_json_row(file.kind(), file.row(at), plain_strings));
  Row text = read_text_row(file.row(at));
  text.begins = file.begins_document(at);
  text.ends = file.ends_document(at);
  return encoder.encode(text);
}

}  // namespace puna
