// SPDX-License-Identifier: Apache-2.0
// Keys and values of all sequences, in pages of kPagePositions positions drawn from one pool, so that a sequence takes what it uses
// and nothing is moved when it grows. All layers share one page table per sequence. A page may have several owners: sequences that
// begin alike, and who keeps it for later ones (infer/prefix_cache.h); it is free again when the last one lets go. Where the
// network is on several devices, each has a pool with its heads and its layers in its own memory, and the pages of all are one
// book.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "kernels/gpu.h"
#include "kernels/kv_pages.h"
#include "model/config.h"
#include "tensor/arena.h"

namespace puna {

class KvCache {
 public:
  // Room for `positions` positions over all sequences, in the GPU's memory where there is one. format: F32, F16 or Q8_0, on a GPU
  // F32, F16, BF16 or F8E4M3. Throws kUnsupported for another format, and for Q8_0 where E is not a multiple of 32; kNoRoom when
  // the memory is not there.
  KvCache(const ModelConfig& config, Format format, std::int64_t positions, const Gpu* gpu = nullptr);
  // The same over several devices: a pool in the memory of each for its own layers (nullptr: the CPU's). All of `config` but its
  // layers is that of a rank's share.
  struct Place {
    const Gpu* gpu;
    std::int64_t layers;
  };
  KvCache(const ModelConfig& config, Format format, std::int64_t positions, std::span<const Place> places);

  // A new, empty sequence; numbers of removed ones are used again.
  int add_sequence();
  void remove_sequence(int sequence);
  // Makes room for positions [0, length), length >= length(sequence), which becomes the sequence's length. Throws kNoRoom with the
  // figures when the pool is empty; nothing is changed then.
  void grow(int sequence, std::int64_t length);
  // Forgets positions >= length and lets go of their pages. A page that others own too is cut at its beginning only.
  void truncate(int sequence, std::int64_t length);

  // An empty sequence begins with whole pages that somebody owns; they get one more owner each.
  void begin_with(int sequence, std::span<const std::int32_t> pages);
  void hold(std::int32_t page);     // one more owner
  void release(std::int32_t page);  // one less
  int owners(std::int32_t page) const { return owners_[static_cast<std::size_t>(page)]; }
  std::int64_t free_pages() const { return static_cast<std::int64_t>(free_pages_.size()); }
  // That `sequence` would take from the pool to reach `length`.
  std::int64_t pages_to_grow(int sequence, std::int64_t length) const;

  std::int64_t length(int sequence) const { return at(sequence).length; }
  // Of the positions [0, length), valid until the sequence is removed.
  std::span<const std::int32_t> pages(int sequence) const { return at(sequence).pages; }
  KvLayer layer(std::int64_t index, int place = 0) const;                  // counted from the first of the place's own
  std::int64_t capacity() const { return pages_total_ * kPagePositions; }  // positions
  Format format() const { return format_; }

  // Throws kUnsupported for a format that keys and values cannot have there.
  static void check_format(const ModelConfig& config, Format format, bool on_gpu);
  // Positions are counted in whole pages.
  static std::int64_t bytes(const ModelConfig& config, Format format, std::int64_t positions);

 private:
  struct Sequence {
    bool used = false;
    std::int64_t length = 0;
    std::vector<std::int32_t> pages;
  };
  const Sequence& at(int sequence) const;  // throws kInternal for a number that is not in use
  Sequence& at(int sequence) { return const_cast<Sequence&>(std::as_const(*this).at(sequence)); }

  Format format_;
  std::int64_t kv_heads_, head_width_, pages_total_;
  std::int64_t pool_bytes_;  // one layer's keys, or values
  struct Memory {
    Arena arena;
    std::byte* data;  // [L, 2, pages, G, ...]: a pool of keys and one of values for each layer (KvLayer)
    std::int64_t layers;
  };
  std::vector<Memory> places_;
  std::vector<std::int32_t> free_pages_;  // a heap: the lowest comes first
  std::vector<int> owners_;               // [pages]
  std::vector<Sequence> sequences_;
};

}  // namespace puna
