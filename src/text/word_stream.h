// SPDX-License-Identifier: Apache-2.0
// A stream of text turned into word counts by several threads, whatever the sizes of the parts it comes in.
// The stream is cut into chunks of at most 1 MiB at borders where Llama 3's split pattern ends a piece whatever follows: behind a
// letter whose next character is none (a piece with a letter before its last character goes on with letters only), and between
// documents. So the counts equal those of the uncut text, for any number of threads. Only where 1 MiB of text has no such border is
// it cut at a character all the same.
// Bytes that are not UTF-8 end the piece before them and stand alone, as the encoder has it: they join nothing. Words of one byte
// are left out, because they hold no pair.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "text/word_counts.h"

namespace puna {

// What a word costs while the vocabulary is learned: 40 + 32 * size bytes (its slot, its symbols and where their pairs are).
constexpr std::uint64_t word_cost(std::uint64_t words, std::uint64_t bytes) { return 40 * words + 32 * bytes; }

class WordStream {
 public:
  static constexpr std::size_t kChunk = std::size_t{1} << 20;
  static constexpr std::size_t kRound = 16;  // chunks counted together: also the most text that is held

  // Where the words' cost passes `memory` bytes at the end of a round, those seen once are forgotten, then those seen twice, until
  // three quarters are left. Rounds end at the same bytes for any number of threads, so what is forgotten does not depend on it.
  WordStream(ThreadPool& pool, std::uint64_t memory)
      : pool_(pool), memory_(memory), local_(static_cast<std::size_t>(pool.size())) {}

  void add(std::string_view text);  // goes on with the document
  void end_document();              // no piece reaches over it

  // Counts what is left. The stream is empty afterwards.
  ShardedWordCounts finish();

  std::uint64_t bytes() const { return bytes_; }                // of text
  std::uint64_t forgotten_words() const { return forgotten_; }  // distinct at the time, for want of memory

  // The last border in `text` behind which a chunk may end, or where there is none its last character's end; 1 .. text.size().
  static std::size_t cut(std::string_view text);

 private:
  void count_round();
  void count_chunk(std::string_view chunk, ShardedWordCounts& words) const;
  void keep_within_memory();

  ThreadPool& pool_;
  std::uint64_t memory_;
  std::vector<ShardedWordCounts> local_;  // [threads]
  ShardedWordCounts words_;
  std::string pending_;            // chunks that are complete, then the beginning of the next
  std::vector<std::size_t> ends_;  // of the complete chunks in pending_
  std::uint64_t bytes_ = 0, forgotten_ = 0;
};

}  // namespace puna
