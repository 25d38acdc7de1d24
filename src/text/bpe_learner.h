// SPDX-License-Identifier: Apache-2.0
// Learns the merges of byte-pair encoding from counted words (Sennrich, Haddow and Birch, "Neural Machine Translation of Rare Words
// with Subword Units", ACL 2016, algorithm 1). At every step, over words w with counts c(w),
//     n(x, y) = sum over w of c(w) * #{ i : w[i] = x and w[i + 1] = y }
// is highest for the pair that becomes the next token; of equal counts the one with the smaller left id, then the smaller right id.
// (That is the rule of Hugging Face's `tokenizers`. "aaa" holds the pair (a, a) twice; joining goes from left to right.)
// Only the words that hold the pair are touched: every pair knows where it occurs, and its count waits in a heap. A count never
// grows after the step that made the pair, because both of its tokens must exist, and the later of them is made in one step. So a
// heap entry that is too high is put back with the count of today, and one that is right is the highest.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "text/byte_bpe.h"
#include "text/word_counts.h"

namespace puna {

struct LearnOptions {
  std::size_t merges = 0;                      // at most so many; fewer where no pair is left
  std::uint64_t min_frequency = 1;             // pairs below it are not joined
  std::unordered_set<std::string> never;       // byte strings that no merge may make: the names of special tokens
  std::function<void(std::size_t)> on_merges;  // now and then, with the merges made
};

class BpeLearner {
 public:
  // Ids 0..255 are the single bytes, in the order of the printable alphabet (byte_of_id); merge number i makes 256 + i.
  static constexpr std::uint32_t kFirstMerged = 256;

  // Throws kNoRoom above 2^32 - 2 bytes of words.
  BpeLearner(const ShardedWordCounts& words, LearnOptions options);
  std::vector<BpeRule> learn();  // once

  // GPT-2's order of the bytes, which Llama 3's vocabulary has too: printable Latin-1 first.
  static const std::array<unsigned char, 256>& byte_of_id();

 private:
  static constexpr std::uint32_t kNone = 0xFFFFFFFFu;

  // A token within a word, at the place of its first byte. Joined ones are skipped over by the links.
  struct Symbol {
    std::uint32_t id, previous, next, word;
  };
  struct Pair {
    std::uint64_t count;
    std::size_t first;  // its places are occurrences_[first, first + places): those of the step that made it
    std::size_t places;
  };
  struct Waiting {
    std::uint64_t count, key;
    std::uint32_t pair;
    // std::push_heap keeps the largest on top.
    bool operator<(const Waiting& other) const { return count != other.count ? count < other.count : key > other.key; }
  };
  // What one step changes for one neighbour: index 2 * neighbour, + 1 where the neighbour stands behind.
  struct Tally {
    std::uint64_t count = 0;
    std::size_t places = 0;
  };
  class PairTable {
   public:
    std::uint32_t find(std::uint64_t key) const;
    void insert(std::uint64_t key, std::uint32_t pair);

   private:
    std::size_t home(std::uint64_t key) const { return static_cast<std::size_t>((key * 0x9E3779B97F4A7C15u) >> shift_); }
    struct Slot {
      std::uint64_t key;
      std::uint32_t pair = kNone;  // kNone: free
    };
    std::vector<Slot> slots_ = std::vector<Slot>(1 << 16);  // a power of two, at most half full
    std::size_t size_ = 0;
    int shift_ = 48;
  };

  static std::uint64_t key_of(std::uint32_t left, std::uint32_t right) { return (std::uint64_t{left} << 32) | right; }

  void take_words(const ShardedWordCounts& words);
  void count_byte_pairs();
  void open_pair(std::uint64_t key, std::uint64_t count, std::size_t places);
  void step(std::uint32_t left, std::uint32_t right, const Pair& pair);
  void join(std::uint32_t left, std::uint32_t right, std::uint32_t made, const Pair& pair);
  void take_losses(std::uint32_t left, std::uint32_t right);
  void open_neighbours(std::uint32_t made);
  void tally(std::uint32_t neighbour, bool behind, std::uint64_t count);
  template <typename Visit>
  void visit_neighbours(std::uint32_t made, Visit&& visit) const;

  LearnOptions options_;
  std::vector<std::string> bytes_;          // [ids] of every token so far
  std::vector<Symbol> symbols_;             // [bytes of all words]
  std::vector<std::uint64_t> word_counts_;  // [words]
  std::vector<Pair> pairs_;
  PairTable table_;                         // key_of(left, right) to index in pairs_
  std::vector<std::uint32_t> occurrences_;  // places of the pairs' left symbols, one pair after another
  std::vector<Waiting> heap_;
  std::vector<Tally> tallies_;          // [2 * ids]
  std::vector<std::uint32_t> touched_;  // indices of the tallies that are not zero
  std::vector<std::uint32_t> joined_;   // places where this step made its token
};

}  // namespace puna
