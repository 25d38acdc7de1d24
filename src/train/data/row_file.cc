// SPDX-License-Identifier: Apache-2.0
#include "train/data/row_file.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "train/data/row.h"
#include "train/data/row_index.h"
#include "train/data/source_files.h"
#include "train/data/unpack.h"

namespace puna {
namespace {

constexpr std::uint64_t kDocumentPart = std::uint64_t{1} << 20;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

MappedFile open(const std::filesystem::path& path, const DataOptions& options) {
  MappedFile file(path);
  return is_compressed(file.bytes()) ? unpack(file, options.scratch, options.scratch_bytes) : std::move(file);
}

// Without the mark that some editors put in front.
std::string_view text_of(const MappedFile& file) {
  const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  return text.starts_with(kByteOrderMark) ? text.substr(kByteOrderMark.size()) : text;
}

char first_character(std::string_view text) {
  const std::size_t at = text.find_first_not_of(" \t\r\n");
  return at == std::string_view::npos ? '\0' : text[at];
}

}  // namespace

RowFile::RowFile(const std::filesystem::path& path, DataKind kind, const DataOptions& options)
    : name_(path.string()), file_(open(path, options)), kind_(kind) {
  const bool is_shard = TokenShard::is_shard(file_.bytes()), is_teacher = TeacherShard::is_shard(file_.bytes());
  if (kind_ == DataKind::kAuto && is_shard) kind_ = DataKind::kTokens;
  if (kind_ == DataKind::kAuto && is_teacher) kind_ = DataKind::kTeacherTokens;
  if (kind_ == DataKind::kTokens) {
    shard_.emplace(file_.bytes(), name_);
    return;
  }
  if (kind_ == DataKind::kTeacherTokens) {
    teacher_.emplace(file_.bytes(), name_);
    return;
  }
  if (is_shard || is_teacher)
    fail(ErrorKind::kBadInput, name_, "this is a token shard, but its kind was given as {}", name_of(kind_));
  if (kind_ == DataKind::kAuto) {
    const std::string extension = data_extension(path);
    const char first = first_character(text_of(file_));
    if (extension == ".txt" || extension == ".md" ||
        (extension.find("json") == std::string::npos && first != '{' && first != '[')) {
      kind_ = DataKind::kText;
    }
  }
  index_rows(options);
  if (kind_ != DataKind::kAuto) return;
  std::vector<std::string_view> first;
  for (std::int64_t i = 0; i < std::min<std::int64_t>(rows(), 16); ++i) first.push_back(row(i));
  kind_ = recognise_rows(first, name_);
}

void RowFile::index_rows(const DataOptions& options) {
  const std::string_view text = text_of(file_);
  if (kind_ == DataKind::kText && options.blank_line_documents) {
    offsets_ = block_offsets(text);
    trimmed_ = " \t\r\n";
  } else if (kind_ == DataKind::kText) {
    offsets_ = part_offsets(text, kDocumentPart);
    is_one_document_ = true;
  } else if (first_character(text) == '[') {
    offsets_ = element_offsets(text, name_);
    trimmed_ = " \t\r\n,";
  } else {
    offsets_ = line_offsets(text);
    trimmed_ = " \t\r\n";
  }
}

std::int64_t RowFile::rows() const {
  if (shard_) return shard_->documents();
  return teacher_ ? teacher_->documents() : static_cast<std::int64_t>(offsets_.size()) - 1;
}

std::string_view RowFile::row(std::int64_t index) const {
  const auto at = static_cast<std::size_t>(index);
  std::string_view row = text_of(file_).substr(offsets_[at], offsets_[at + 1] - offsets_[at]);
  while (!row.empty() && trimmed_.find(row.back()) != std::string_view::npos) row.remove_suffix(1);
  return row;
}

std::string RowFile::where(std::int64_t index) const {
  if (holds_tokens()) return fmt::format("{}: document {}", name_, index + 1);
  const std::string_view before = text_of(file_).substr(0, offsets_[static_cast<std::size_t>(index)]);
  return fmt::format("{}:{}", name_, std::count(before.begin(), before.end(), '\n') + 1);
}

}  // namespace puna
