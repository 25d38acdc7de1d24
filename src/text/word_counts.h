// SPDX-License-Identifier: Apache-2.0
// How often each word of a corpus occurs: the only thing of the text that training a vocabulary keeps. A word here is a piece of
// the split pattern (" the", "123", "\n\n"). Words of up to seven bytes, most of a text, lie inside the table's slots.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace puna {

class WordCounts {
 public:
  // A word's slot key and where it belongs. key: the bytes and the length where they fit, else a hash with the top byte set.
  struct Key {
    std::uint64_t key = 0, hash = 0;
  };
  static Key key_of(std::string_view word);

  // Adds `count` to a word of at least one byte. Throws kNoRoom when all long words together pass 4 GiB.
  void add(std::string_view word, Key key, std::uint64_t count);
  void add(std::string_view word, std::uint64_t count) { add(word, key_of(word), count); }

  // Calls visit(word, count) for every word, in an order that depends on the table's history.
  template <typename Visit>
  void visit(Visit&& visit) const {
    for (const Slot& slot : slots_) {
      if (slot.count == 0) continue;
      const std::size_t short_size = slot.key >> 56;
      char inline_bytes[8];
      std::memcpy(inline_bytes, &slot.key, sizeof(inline_bytes));
      visit(short_size <= kShort ? std::string_view(inline_bytes, short_size) : long_word(slot), slot.count);
    }
  }

  std::size_t size() const { return size_; }
  std::size_t bytes() const { return bytes_; }  // of all words
  void clear();
  void drop_below(std::uint64_t count);  // forgets the words that are rarer

 private:
  static constexpr std::size_t kShort = 7;

  struct Slot {
    std::uint64_t key = 0;
    std::uint64_t count = 0;  // 0: free
    std::uint32_t offset = 0, size = 0;
  };

  std::string_view long_word(const Slot& slot) const { return std::string_view(text_).substr(slot.offset, slot.size); }
  bool holds(const Slot& slot, std::string_view word, std::uint64_t key) const {
    return slot.key == key && (word.size() <= kShort || long_word(slot) == word);
  }
  void insert(std::string_view word, Key key, std::uint64_t count);
  void grow();

  std::vector<Slot> slots_;  // a power of two, at most half full
  std::string text_;         // the words above kShort bytes, one after another
  std::size_t size_ = 0, bytes_ = 0;
};

// The same in sixteen tables by hash, so that threads can join their counts without a lock: each joins other tables.
class ShardedWordCounts {
 public:
  static constexpr std::size_t kShards = 16;

  void add(std::string_view word, std::uint64_t count) {
    const WordCounts::Key key = WordCounts::key_of(word);
    shards_[key.hash >> 60].add(word, key, count);
  }
  // Adds the counts of one shard of `other`, and empties it there.
  void take_shard(std::size_t shard, ShardedWordCounts& other);

  template <typename Visit>
  void visit(Visit&& visit) const {
    for (const WordCounts& shard : shards_) shard.visit(visit);
  }

  std::size_t size() const;
  std::size_t bytes() const;
  void drop_below(std::uint64_t count);

 private:
  std::array<WordCounts, kShards> shards_;
};

inline WordCounts::Key WordCounts::key_of(std::string_view word) {
  constexpr std::uint64_t kPrime = 0x9E3779B97F4A7C15u;
  const auto fold = [](std::uint64_t a, std::uint64_t b) {
    const auto product = static_cast<unsigned __int128>(a) * b;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
  };
  const char* p = word.data();
  std::size_t left = word.size();
  std::uint64_t tail = 0;
  if (left <= kShort) {
    if (left >= 4) {  // two overlapping loads instead of a copy of unknown length
      std::uint32_t head, last;
      std::memcpy(&head, p, 4);
      std::memcpy(&last, p + left - 4, 4);
      tail = head | (static_cast<std::uint64_t>(last) << (8 * (left - 4)));
    } else {
      for (std::size_t i = 0; i < left; ++i) tail |= static_cast<std::uint64_t>(static_cast<unsigned char>(p[i])) << (8 * i);
    }
    const std::uint64_t key = tail | (static_cast<std::uint64_t>(left) << 56);
    return {key, fold(key ^ 0xA0761D6478BD642Fu, kPrime)};
  }
  std::uint64_t hash = left * kPrime;
  for (; left > 8; left -= 8, p += 8) {
    std::memcpy(&tail, p, 8);
    hash = fold(hash ^ tail, 0xE7037ED1A0B428DBu);
  }
  std::memcpy(&tail, p + left - 8, 8);
  hash = fold(hash ^ tail, kPrime);
  return {hash | (0xFFull << 56), hash};
}

inline void WordCounts::add(std::string_view word, Key key, std::uint64_t count) {
  for (std::size_t at = key.hash & (slots_.size() - 1); !slots_.empty(); at = (at + 1) & (slots_.size() - 1)) {
    if (slots_[at].count == 0) break;
    if (holds(slots_[at], word, key.key)) {
      slots_[at].count += count;
      return;
    }
  }
  insert(word, key, count);
}

}  // namespace puna
