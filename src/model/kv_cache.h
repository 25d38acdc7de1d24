// SPDX-License-Identifier: Apache-2.0
// Keys and values of all sequences, in pages of kPagePositions positions drawn from one pool, so that a sequence takes what it uses
// and nothing is moved when it grows. All layers share one page table per sequence.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/attention.h"
#include "model/config.h"
#include "tensor/arena.h"

namespace puna {

class KvCache {
 public:
  // Room for `positions` positions over all sequences. format: F32, F16 or Q8_0 (E must be a multiple of 32 for Q8_0).
  KvCache(const ModelConfig& config, Format format, std::int64_t positions);

  int add_sequence();
  void remove_sequence(int sequence);
  // Makes room for positions [0, length); throws kNoRoom with the figures when the pool is empty.
  void grow(int sequence, std::int64_t length);
  // Forgets positions >= length and gives their pages back.
  void truncate(int sequence, std::int64_t length);

  std::int64_t length(int sequence) const { return sequences_[static_cast<std::size_t>(sequence)].length; }
  std::span<const std::int32_t> pages(int sequence) const { return sequences_[static_cast<std::size_t>(sequence)].pages; }
  KvLayer layer(std::int64_t index) const;
  std::int64_t capacity() const;                // positions
  Format format() const { return format_; }

  static std::int64_t bytes(const ModelConfig& config, Format format, std::int64_t positions);

 private:
  struct Sequence {
    bool used = false;
    std::int64_t length = 0;
    std::vector<std::int32_t> pages;
  };
  Format format_;
  std::int64_t kv_heads_, head_width_, pages_total_;
  std::int64_t pool_bytes_;                     // one layer's keys, or values
  Arena arena_;                                 // [L, 2, pages, G, kPagePositions, E]
  std::vector<std::int32_t> free_pages_;
  std::vector<Sequence> sequences_;
};

}  // namespace puna
