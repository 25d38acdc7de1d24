// SPDX-License-Identifier: Apache-2.0
// Documents as token ids, made once and read by memory map. All numbers are little-endian:
//   bytes 0..7    "PUNATOKS"
//   bytes 8..11   version, 1
//   bytes 12..15  bytes of an id: 2 or 4
//   bytes 16..23  number of ids N
//   bytes 24..31  number of documents D
//   bytes 32..39  size of the vocabulary: every id is below it
//   then N ids, zeros up to a multiple of 8, and D numbers of 8 bytes: where each document ends, counted in ids.
// Documents hold their own beginning and end tokens: nothing is added when they are read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include "text/token.h"

namespace puna {

class TokenShard {
 public:
  static bool is_shard(std::span<const std::byte> bytes);

  // A view: `bytes` must stay. Throws kBadInput naming `where` for a header or ends that do not fit the bytes.
  TokenShard(std::span<const std::byte> bytes, std::string where);

  std::int64_t documents() const { return documents_; }
  std::int64_t tokens() const { return tokens_; }
  std::int64_t vocabulary() const { return vocabulary_; }
  // Throws kBadInput where an id is not below vocabulary().
  std::vector<Token> document(std::int64_t index) const;

 private:
  std::int64_t end_of(std::int64_t document) const;

  std::string where_;
  const std::byte *ids_ = nullptr, *ends_ = nullptr;
  std::int64_t width_ = 0, tokens_ = 0, documents_ = 0, vocabulary_ = 0;
};

// Writes a shard document by document; memory is 8 bytes per document.
class TokenShardWriter {
 public:
  // Ids take 2 bytes where the vocabulary has at most 65536. Throws kNoRoom where the file cannot be made.
  TokenShardWriter(const std::filesystem::path& path, std::int64_t vocabulary);
  void add(std::span<const Token> document);  // not empty
  void finish();                              // once; a shard that is not finished is refused when it is read

 private:
  void flush();

  std::filesystem::path path_;
  std::ofstream file_;
  std::int64_t vocabulary_, width_, tokens_ = 0;
  std::vector<std::uint64_t> ends_;
  std::vector<std::byte> buffer_;
};

}  // namespace puna
