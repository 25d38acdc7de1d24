// SPDX-License-Identifier: Apache-2.0
#include "train/data/token_shard.h"

#include <cstring>
#include <optional>
#include <utility>

#include "base/checked_math.h"
#include "base/error.h"
#include "train/data/little_endian.h"

namespace puna {
namespace {

constexpr char kTokenMagic[] = {'P', 'U', 'N', 'A', 'T', 'O', 'K', 'S'};
constexpr std::uint32_t kTokenVersion = 1;
constexpr std::uint64_t kTokenHeader = 40;

// nullopt where it does not fit in 64 bits.
std::optional<std::uint64_t> padded_ids(std::uint64_t tokens, std::uint64_t width) {
  const auto bytes = checked_multiply(tokens, width);
  const auto rounded = bytes ? checked_add(*bytes, 7) : std::nullopt;
  return rounded ? std::optional(*rounded / 8 * 8) : std::nullopt;
}

}  // namespace

bool TokenShard::is_shard(std::span<const std::byte> bytes) {
  return bytes.size() >= sizeof(kTokenMagic) && std::memcmp(bytes.data(), kTokenMagic, sizeof(kTokenMagic)) == 0;
}

TokenShard::TokenShard(std::span<const std::byte> bytes, std::string where) : where_(std::move(where)) {
  if (!is_shard(bytes) || bytes.size() < kTokenHeader) fail(ErrorKind::kBadInput, where_, "this is not a token shard");
  const auto version = read_number<std::uint32_t>(&bytes[8]), width = read_number<std::uint32_t>(&bytes[12]);
  if (version != kTokenVersion)
    fail(ErrorKind::kUnsupported, where_, "a token shard of version {}, expected {}", version, kTokenVersion);
  if (width != 2 && width != 4) fail(ErrorKind::kBadInput, where_, "ids of {} bytes, expected 2 or 4", width);
  const auto tokens = read_number<std::uint64_t>(&bytes[16]), documents = read_number<std::uint64_t>(&bytes[24]);
  const auto vocabulary = read_number<std::uint64_t>(&bytes[32]);
  const auto ids = padded_ids(tokens, width), ends = checked_multiply(documents, 8);
  const auto body = ids && ends ? checked_add(*ids, *ends) : std::nullopt;
  if (!body || *body != bytes.size() - kTokenHeader) {
    fail(ErrorKind::kBadInput, where_, "{} ids and {} documents do not fit its {} bytes: it was not finished, or cut short", tokens,
         documents, bytes.size());
  }
  if (vocabulary == 0 || vocabulary > std::uint64_t{1} << 31) {
    fail(ErrorKind::kBadInput, where_, "a vocabulary of {} ids is not possible", vocabulary);
  }
  ids_ = bytes.data() + kTokenHeader;
  ends_ = ids_ + *ids;
  width_ = width;
  tokens_ = static_cast<std::int64_t>(tokens);
  documents_ = static_cast<std::int64_t>(documents);
  vocabulary_ = static_cast<std::int64_t>(vocabulary);
  for (std::int64_t d = 0; d < documents_; ++d) {
    if (end_of(d) <= end_of(d - 1) || end_of(d) > tokens_) {
      fail(ErrorKind::kBadInput, where_, "document {} of {} ends at id {}, expected {} to {}", d, documents_, end_of(d),
           end_of(d - 1) + 1, tokens_);
    }
  }
  if (end_of(documents_ - 1) != tokens_) {
    fail(ErrorKind::kBadInput, where_, "the last document ends at id {} of {}", end_of(documents_ - 1), tokens_);
  }
}

std::int64_t TokenShard::end_of(std::int64_t document) const {
  return document < 0 ? 0 : read_number<std::int64_t>(ends_ + document * 8);
}

std::vector<Token> TokenShard::document(std::int64_t index) const {
  const std::int64_t begin = end_of(index - 1), end = end_of(index);
  std::vector<Token> document;
  document.reserve(static_cast<std::size_t>(end - begin));
  for (std::int64_t i = begin; i < end; ++i) {
    const std::uint32_t token = read_id(ids_, i, width_);
    if (token >= vocabulary_) {
      fail(ErrorKind::kBadInput, where_, "id {} at place {} is outside its vocabulary of {}", token, i, vocabulary_);
    }
    document.push_back(Token{static_cast<std::int32_t>(token)});
  }
  return document;
}

TokenShardWriter::TokenShardWriter(const std::filesystem::path& path, std::int64_t vocabulary)
    : path_(path), file_(path, std::ios::binary), vocabulary_(vocabulary), width_(id_width(vocabulary)) {
  buffer_.assign(kTokenHeader, std::byte{0});  // the magic number comes last: until then this is no shard
  flush();
  if (!file_) fail(ErrorKind::kNoRoom, path_.string(), "cannot write the token shard here");
}

void TokenShardWriter::flush() {
  file_.write(reinterpret_cast<const char*>(buffer_.data()), static_cast<std::streamsize>(buffer_.size()));
}

void TokenShardWriter::add(std::span<const Token> document) {
  PUNA_CHECK(!document.empty(), path_.string(), "a document without tokens");
  buffer_.clear();
  for (const Token token : document) {
    PUNA_CHECK(id(token) >= 0 && id(token) < vocabulary_, path_.string(), "id {} is outside the vocabulary", id(token));
    append_id(buffer_, id(token), width_);
  }
  flush();
  tokens_ += static_cast<std::int64_t>(document.size());
  ends_.push_back(static_cast<std::uint64_t>(tokens_));
}

void TokenShardWriter::finish() {
  buffer_.assign(static_cast<std::size_t>((8 - tokens_ * width_ % 8) % 8), std::byte{0});
  for (const std::uint64_t end : ends_) append_number(buffer_, end);
  flush();
  buffer_.clear();
  for (const char c : kTokenMagic) append_number(buffer_, c);
  append_number(buffer_, kTokenVersion);
  append_number(buffer_, static_cast<std::uint32_t>(width_));
  append_number(buffer_, static_cast<std::uint64_t>(tokens_));
  append_number(buffer_, static_cast<std::uint64_t>(ends_.size()));
  append_number(buffer_, static_cast<std::uint64_t>(vocabulary_));
  file_.seekp(0);
  flush();
  file_.close();
  if (!file_) fail(ErrorKind::kNoRoom, path_.string(), "the token shard could not be written: is the disk full?");
}

}  // namespace puna
