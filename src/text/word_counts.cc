// SPDX-License-Identifier: Apache-2.0
#include "text/word_counts.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/error.h"

namespace puna {

void WordCounts::insert(std::string_view word, Key key, std::uint64_t count) {
  if (2 * (size_ + 1) > slots_.size()) grow();
  Slot slot{key.key, count, 0, static_cast<std::uint32_t>(word.size())};
  if (word.size() > kShort) {
    if (text_.size() + word.size() > std::numeric_limits<std::uint32_t>::max()) {
      fail(ErrorKind::kNoRoom, "train-tokenizer", "the different words of the text exceed 4 GiB: train on a part of it");
    }
    slot.offset = static_cast<std::uint32_t>(text_.size());
    text_ += word;
  }
  std::size_t at = key.hash & (slots_.size() - 1);
  while (slots_[at].count != 0) at = (at + 1) & (slots_.size() - 1);
  slots_[at] = slot;
  ++size_;
  bytes_ += word.size();
}

void WordCounts::grow() {
  WordCounts larger;
  larger.slots_.resize(std::max<std::size_t>(1024, 2 * slots_.size()));
  for (const Slot& slot : slots_) {
    if (slot.count == 0) continue;
    // A long word's slot keeps all of its hash but the top byte, which only chooses the shard.
    const std::uint64_t hash =
        (slot.key >> 56) <= kShort ? key_of(std::string_view(reinterpret_cast<const char*>(&slot.key), slot.size)).hash : slot.key;
    std::size_t at = hash & (larger.slots_.size() - 1);
    while (larger.slots_[at].count != 0) at = (at + 1) & (larger.slots_.size() - 1);
    larger.slots_[at] = slot;
  }
  slots_ = std::move(larger.slots_);
}

void WordCounts::clear() {
  std::fill(slots_.begin(), slots_.end(), Slot{});
  text_.clear();
  size_ = bytes_ = 0;
}

void WordCounts::drop_below(std::uint64_t count) {
  WordCounts kept;
  visit([&](std::string_view word, std::uint64_t found) {
    if (found >= count) kept.add(word, found);
  });
  *this = std::move(kept);
}

void ShardedWordCounts::take_shard(std::size_t shard, ShardedWordCounts& other) {
  other.shards_[shard].visit([&](std::string_view word, std::uint64_t count) { shards_[shard].add(word, count); });
  other.shards_[shard].clear();
}

std::size_t ShardedWordCounts::size() const {
  std::size_t size = 0;
  for (const WordCounts& shard : shards_) size += shard.size();
  return size;
}

std::size_t ShardedWordCounts::bytes() const {
  std::size_t bytes = 0;
  for (const WordCounts& shard : shards_) bytes += shard.bytes();
  return bytes;
}

void ShardedWordCounts::drop_below(std::uint64_t count) {
  for (WordCounts& shard : shards_) shard.drop_below(count);
}

}  // namespace puna
