// SPDX-License-Identifier: Apache-2.0
// Documents as token ids with what a teacher says of them (`puna distill-data`): for every trained token the k likeliest in its
// place with their log-probabilities, and that of all others together (kernels/top_k.h). Mapped, and read row by row when a row is
// trained on. All numbers are little-endian:
//   bytes 0..7    "PUNATEAC"
//   bytes 8..11   version, 1
//   bytes 12..15  bytes of an id: 2 or 4
//   bytes 16..23  size of the vocabulary V: every id is below it
//   bytes 24..31  k, 1 to V
//   then the documents: n ids; n marks of one byte, 1 for a trained token, never the first; and for each of these a row: k ids,
//        ascending, and k + 1 log-probabilities in F16, the last the others'
//   then for each document two numbers of 8 bytes: tokens and trained tokens up to its end
//   the last 24 bytes: number of documents D, of tokens N, of trained tokens R
// F16 keeps log p to one part in 2048: a probability of e^-16 to 0.4 %, one near 1 far closer than that. F32 would make a row of 64
// tokens a third larger (4-byte ids: 516 bytes instead of 386) for digits that no student learns.
// Documents hold their own beginning and end tokens. They are as long as the teacher saw them, and are not split when read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "tensor/atomic_file.h"
#include "text/token.h"

namespace puna {

class TeacherShard {
 public:
  static bool is_shard(std::span<const std::byte> bytes);

  // A view: `bytes` must stay. Throws kBadInput naming `where` for sizes that do not fit the bytes.
  TeacherShard(std::span<const std::byte> bytes, std::string where);

  std::int64_t documents() const { return documents_; }
  std::int64_t tokens() const { return end_of(documents_ - 1).tokens; }
  std::int64_t trained_tokens() const { return end_of(documents_ - 1).rows; }
  std::int64_t vocabulary() const { return vocabulary_; }
  std::int64_t top_k() const { return top_k_; }

  struct Document {
    std::vector<Token> tokens;  // [n]
    std::vector<bool> trained;  // [n]
    std::int64_t offset = 0;    // of the row of its first trained token, in bytes; the others' follow, row_bytes() apart
  };
  // Throws kBadInput for an id that is not below vocabulary(), or marks that are not those of the index.
  Document document(std::int64_t index) const;

  std::int64_t row_bytes() const { return top_k_ * width_ + (top_k_ + 1) * 2; }
  // The row at `offset` -> ids [k] and log_probs [k]; returns the others'. Throws kBadInput for what is no distribution.
  float read_row(std::int64_t offset, std::int32_t* ids, float* log_probs) const;

 private:
  struct End {
    std::int64_t tokens = 0, rows = 0;
  };
  End end_of(std::int64_t document) const;
  std::int64_t offset_of(const End& end) const;

  std::string where_;
  std::span<const std::byte> bytes_;
  const std::byte* ends_ = nullptr;
  std::int64_t width_ = 0, documents_ = 0, vocabulary_ = 0, top_k_ = 0;
};

// Writes a shard document by document; memory is 16 bytes per document. The file has its name once it is finished, and is gone
// where it never is.
class TeacherShardWriter {
 public:
  // Ids take 2 bytes where the vocabulary has at most 65536. Throws what AtomicFile throws.
  TeacherShardWriter(const std::filesystem::path& path, std::int64_t vocabulary, std::int64_t top_k);

  // A document, then add_row() once for each of its trained tokens.
  void add_document(std::span<const Token> tokens, const std::vector<bool>& trained);  // [n]; the first is not trained
  // ids [k] ascending, log_probs [k], and the others' log-probability; -infinity where k is the vocabulary.
  void add_row(const std::int32_t* ids, const float* log_probs, float rest);
  void finish();  // once

  std::uint64_t bytes() const { return file_.size(); }

 private:
  void append_log_prob(float log_prob);
  void flush();

  std::string where_;
  AtomicFile file_;
  std::int64_t vocabulary_, top_k_, width_, rows_ = 0;
  std::vector<std::uint64_t> ends_;  // tokens and rows of each document
  std::vector<std::byte> buffer_;
};

}  // namespace puna
