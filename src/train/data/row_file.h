// SPDX-License-Identifier: Apache-2.0
// One file as numbered rows: lines of JSON, elements of a JSON array, documents of a text, documents of a shard. The file is
// mapped, never loaded; what is kept is where each row begins, 8 bytes. Compressed files are unpacked first (unpack.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "train/data/data_options.h"
#include "train/data/teacher_shard.h"
#include "train/data/token_shard.h"

namespace puna {

class RowFile {
 public:
  // `kind` may be kAuto: then the file's ending and its first rows decide (recognise_rows in row.h). Throws kBadInput where they
  // do not, or where the file is not of this kind.
  RowFile(const std::filesystem::path& path, DataKind kind, const DataOptions& options);

  DataKind kind() const { return kind_; }
  std::int64_t rows() const;
  std::int64_t bytes() const { return static_cast<std::int64_t>(file_.bytes().size()); }  // unpacked

  // JSON of one row, or one document's text. Of a text file that is one document, rows are parts of about a megabyte, cut at line
  // ends: only the first begins the document, only the last ends it.
  std::string_view row(std::int64_t index) const;
  bool begins_document(std::int64_t index) const { return !is_one_document_ || index == 0; }
  bool ends_document(std::int64_t index) const { return !is_one_document_ || index + 1 == rows(); }
  const TokenShard* shard() const { return shard_ ? &*shard_ : nullptr; }
  const TeacherShard* teacher() const { return teacher_ ? &*teacher_ : nullptr; }
  bool holds_tokens() const { return shard_ || teacher_; }  // rows are documents of ids then, and have no text

  // "data/chat.jsonl:17", counted in lines from 1; "shard.bin: document 17" for shards.
  std::string where(std::int64_t index) const;

 private:
  void index_rows(const DataOptions& options);

  std::string name_;
  MappedFile file_;
  DataKind kind_;
  bool is_one_document_ = false;
  std::string_view trimmed_;            // the characters that are cut from a row's end
  std::vector<std::uint64_t> offsets_;  // [rows + 1] where rows begin, and where the last ends
  std::optional<TokenShard> shard_;
  std::optional<TeacherShard> teacher_;
};

}  // namespace puna
