// SPDX-License-Identifier: Apache-2.0
#include "train/data/teacher_shard.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "base/checked_math.h"
#include "base/error.h"
#include "tensor/half.h"
#include "train/data/little_endian.h"

namespace puna {
namespace {

constexpr std::string_view kTeacherMagic = "PUNATEAC";
constexpr std::uint32_t kTeacherVersion = 1;
constexpr std::uint64_t kTeacherHeader = 32, kTeacherFooter = 24, kTeacherEnd = 16;
constexpr float kLeast = -65504;  // of F16
constexpr std::size_t kTeacherBuffer = std::size_t{1} << 20;

// Header, documents, index and footer; nullopt where it does not fit in 64 bits.
std::optional<std::uint64_t> shard_bytes(std::uint64_t width, std::uint64_t top_k, std::uint64_t documents, std::uint64_t tokens,
                                         std::uint64_t rows) {
  const auto row = checked_multiply(top_k, width + 2);  // the others' log-probability comes on top
  const auto all_rows = row ? checked_multiply(rows, *row + 2) : std::nullopt;
  std::optional<std::uint64_t> sum = kTeacherHeader + kTeacherFooter;
  for (const auto part : {checked_multiply(tokens, width + 1), all_rows, checked_multiply(documents, kTeacherEnd)})
    sum = sum && part ? checked_add(*sum, *part) : std::nullopt;
  return sum;
}

}  // namespace

bool TeacherShard::is_shard(std::span<const std::byte> bytes) {
  return bytes.size() >= kTeacherMagic.size() &&
         std::string_view(reinterpret_cast<const char*>(bytes.data()), kTeacherMagic.size()) == kTeacherMagic;
}

TeacherShard::TeacherShard(std::span<const std::byte> bytes, std::string where) : where_(std::move(where)), bytes_(bytes) {
  if (!is_shard(bytes) || bytes.size() < kTeacherHeader + kTeacherFooter)
    fail(ErrorKind::kBadInput, where_, "this is no shard of a teacher");
  const auto version = read_number<std::uint32_t>(&bytes[8]), width = read_number<std::uint32_t>(&bytes[12]);
  if (version != kTeacherVersion)
    fail(ErrorKind::kUnsupported, where_, "a teacher's shard of version {}, expected {}", version, kTeacherVersion);
  if (width != 2 && width != 4) fail(ErrorKind::kBadInput, where_, "ids of {} bytes, expected 2 or 4", width);
  const auto vocabulary = read_number<std::uint64_t>(&bytes[16]), top_k = read_number<std::uint64_t>(&bytes[24]);
  if (vocabulary == 0 || vocabulary > std::uint64_t{1} << 31 || top_k == 0 || top_k > vocabulary)
    fail(ErrorKind::kBadInput, where_, "{} likeliest of a vocabulary of {} ids are not possible", top_k, vocabulary);
  const std::byte* const footer = bytes.data() + bytes.size() - kTeacherFooter;
  const auto documents = read_number<std::uint64_t>(footer), tokens = read_number<std::uint64_t>(footer + 8),
             rows = read_number<std::uint64_t>(footer + 16);
  if (shard_bytes(width, top_k, documents, tokens, rows) != bytes.size()) {
    fail(ErrorKind::kBadInput, where_, "{} tokens, {} of them trained, in {} documents do not fit its {} bytes: it was cut short",
         tokens, rows, documents, bytes.size());
  }
  width_ = width;
  documents_ = static_cast<std::int64_t>(documents);
  vocabulary_ = static_cast<std::int64_t>(vocabulary);
  top_k_ = static_cast<std::int64_t>(top_k);
  ends_ = footer - documents * kTeacherEnd;
  for (std::int64_t d = 0; d < documents_; ++d) {
    const End before = end_of(d - 1), end = end_of(d);
    const bool ascending = end.tokens > before.tokens && end.rows > before.rows;
    if (ascending && end.tokens <= static_cast<std::int64_t>(tokens) && end.rows <= static_cast<std::int64_t>(rows)) continue;
    fail(ErrorKind::kBadInput, where_, "document {} of {} ends at token {} and row {}, behind {} and {} of {} and {}", d + 1,
         documents_, end.tokens, end.rows, before.tokens, before.rows, tokens, rows);
  }
  const End last = end_of(documents_ - 1);
  if (last.tokens != static_cast<std::int64_t>(tokens) || last.rows != static_cast<std::int64_t>(rows)) {
    fail(ErrorKind::kBadInput, where_, "the last document ends at token {} of {} and row {} of {}", last.tokens, tokens, last.rows,
         rows);
  }
}

TeacherShard::End TeacherShard::end_of(std::int64_t document) const {
  if (document < 0) return {};
  const std::byte* const end = ends_ + document * static_cast<std::int64_t>(kTeacherEnd);
  return {read_number<std::int64_t>(end), read_number<std::int64_t>(end + 8)};
}

std::int64_t TeacherShard::offset_of(const End& end) const {
  return static_cast<std::int64_t>(kTeacherHeader) + end.tokens * (width_ + 1) + end.rows * row_bytes();
}

TeacherShard::Document TeacherShard::document(std::int64_t index) const {
  const End before = end_of(index - 1), end = end_of(index);
  const std::int64_t count = end.tokens - before.tokens;
  const std::byte* const ids = bytes_.data() + offset_of(before);
  const std::byte* const marks = ids + count * width_;
  Document document;
  document.offset = marks + count - bytes_.data();
  std::int64_t rows = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint32_t token = read_id(ids, i, width_);
    const auto mark = std::to_integer<unsigned>(marks[i]);
    if (token >= vocabulary_) {
      fail(ErrorKind::kBadInput, where_, "id {} at place {} of document {} is outside its vocabulary of {}", token, i, index + 1,
           vocabulary_);
    }
    if (mark > 1 || (i == 0 && mark != 0))
      fail(ErrorKind::kBadInput, where_, "mark {} at place {} of document {}: the file is damaged", mark, i, index + 1);
    document.tokens.push_back(Token{static_cast<std::int32_t>(token)});
    document.trained.push_back(mark == 1);
    rows += mark;
  }
  if (rows != end.rows - before.rows) {
    fail(ErrorKind::kBadInput, where_, "document {} marks {} tokens as trained and has {} rows of the teacher", index + 1, rows,
         end.rows - before.rows);
  }
  return document;
}

float TeacherShard::read_row(std::int64_t offset, std::int32_t* ids, float* log_probs) const {
  PUNA_CHECK(offset >= 0 && offset + row_bytes() <= static_cast<std::int64_t>(bytes_.size()), where_, "a row at byte {}", offset);
  const std::byte* const row = bytes_.data() + offset;
  const std::byte* const halves = row + top_k_ * width_;
  const auto log_prob = [&](std::int64_t i) { return f32_from_f16(read_number<std::uint16_t>(halves + i * 2)); };
  bool sound = true;
  std::int64_t least = 0;  // that the next id may be
  for (std::int64_t i = 0; i < top_k_; ++i) {
    const std::int64_t id = read_id(row, i, width_);
    sound = sound && id >= least && id < vocabulary_ && log_prob(i) <= 0 && log_prob(i) >= kLeast;
    least = id + 1;
    ids[i] = static_cast<std::int32_t>(id);
    log_probs[i] = log_prob(i);
  }
  const float rest = log_prob(top_k_);
  sound = sound && (top_k_ == vocabulary_ ? rest == -std::numeric_limits<float>::infinity() : rest <= 0 && rest >= kLeast);
  if (!sound) {
    fail(ErrorKind::kBadInput, where_, "the row at byte {} is damaged: expected {} ascending ids below {}, with log-probabilities",
         offset, top_k_, vocabulary_);
  }
  return rest;
}

TeacherShardWriter::TeacherShardWriter(const std::filesystem::path& path, std::int64_t vocabulary, std::int64_t top_k)
    : where_(path.string()), file_(path), vocabulary_(vocabulary), top_k_(top_k), width_(id_width(vocabulary)) {
  PUNA_CHECK(top_k >= 1 && top_k <= vocabulary, where_, "{} likeliest of {} ids", top_k, vocabulary);
  for (const char c : kTeacherMagic) append_number(buffer_, c);
  append_number(buffer_, kTeacherVersion);
  append_number(buffer_, static_cast<std::uint32_t>(width_));
  append_number(buffer_, static_cast<std::uint64_t>(vocabulary_));
  append_number(buffer_, static_cast<std::uint64_t>(top_k_));
}

void TeacherShardWriter::flush() {
  file_.write(buffer_);
  buffer_.clear();
}

void TeacherShardWriter::add_document(std::span<const Token> tokens, const std::vector<bool>& trained) {
  const auto rows = std::ranges::count(trained, true);
  const std::uint64_t tokens_before = ends_.empty() ? 0 : ends_[ends_.size() - 2], rows_before = ends_.empty() ? 0 : ends_.back();
  PUNA_CHECK(rows > 0 && trained.size() == tokens.size() && !trained.front(), where_, "{} tokens with {} marks", tokens.size(),
             trained.size());
  PUNA_CHECK(static_cast<std::uint64_t>(rows_) == rows_before, where_, "{} rows of {}", rows_, rows_before);
  for (const Token token : tokens) {
    PUNA_CHECK(id(token) >= 0 && id(token) < vocabulary_, where_, "id {} is outside the vocabulary", id(token));
    append_id(buffer_, id(token), width_);
  }
  for (const bool mark : trained) buffer_.push_back(std::byte{mark});
  ends_.push_back(tokens_before + tokens.size());
  ends_.push_back(rows_before + static_cast<std::uint64_t>(rows));
}

void TeacherShardWriter::append_log_prob(float log_prob) {
  append_number(buffer_, f16_from_f32(std::clamp(log_prob, kLeast, 0.0f)));
}

void TeacherShardWriter::add_row(const std::int32_t* ids, const float* log_probs, float rest) {
  for (std::int64_t i = 0; i < top_k_; ++i) append_id(buffer_, ids[i], width_);
  for (std::int64_t i = 0; i < top_k_; ++i) append_log_prob(log_probs[i]);
  if (top_k_ == vocabulary_)
    append_number(buffer_, f16_from_f32(-std::numeric_limits<float>::infinity()));
  else
    append_log_prob(rest);
  ++rows_;
  if (buffer_.size() >= kTeacherBuffer) flush();
}

void TeacherShardWriter::finish() {
  const std::uint64_t tokens = ends_.empty() ? 0 : ends_[ends_.size() - 2], rows = ends_.empty() ? 0 : ends_.back();
  PUNA_CHECK(static_cast<std::uint64_t>(rows_) == rows, where_, "{} rows of {}", rows_, rows);
  for (const std::uint64_t end : ends_) append_number(buffer_, end);
  for (const std::uint64_t figure : {std::uint64_t{ends_.size() / 2}, tokens, rows}) append_number(buffer_, figure);
  flush();
  file_.commit();
}

}  // namespace puna
