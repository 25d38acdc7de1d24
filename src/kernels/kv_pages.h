// SPDX-License-Identifier: Apache-2.0
// Keys and values of sequences in pages: how a page lies in memory, which rows of a batch go where, and the writing of them.
// Attention (kernels/attention.h) reads them; who owns the pages is model/kv_cache.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/device.h"
#include "kernels/rope.h"
#include "tensor/format.h"

namespace puna {

inline constexpr std::int64_t kPagePositions = 64;

// One layer's keys and values: pools of pages in `format`; on the CPU F32, F16 or Q8_0 (E a multiple of 32), on a GPU F32, F16,
// BF16 or F8E4M3 (rounded as they are, ±448 at most). On a GPU pages of keys lie as those of values. On the CPU a page of values
// holds one row of E for each position. A page of keys is its transpose, positions fastest, because scores of many positions are
// summed side by side; in Q8_0 each 32 channels of 64 positions are one KeyBlockQ8_0. Both take the same bytes.
struct KvLayer {
  Format format;
  std::int64_t kv_heads, head_width;  // G, E
  std::byte* keys;                    // [pages, G, E, kPagePositions]; Q8_0: [pages, G, E / 32] KeyBlockQ8_0
  std::byte* values;                  // [pages, G, kPagePositions, E]
};

// What 64 positions' BlockQ8_0 of the same 32 channels hold, number by number.
struct KeyBlockQ8_0 {
  std::uint16_t d[kPagePositions];    // F16
  std::int8_t q[32][kPagePositions];  // [channel, position]
};

// Bytes of the keys, or of the values, of one page of one head.
inline std::int64_t kv_page_bytes(Format format, std::int64_t head_width) {
  return format_bytes(format, head_width * kPagePositions);
}

// Rows [first_row, first_row + rows) of the batch are the positions [first_position, first_position + rows) of one sequence.
// Its position p lies in page pages[p / kPagePositions].
struct BatchSequence {
  std::int64_t first_row, rows, first_position;
  std::span<const std::int32_t> pages;
};

// Where the rows of a batch belong, made once for all layers: on the CPU the sequences, for a GPU the same in its memory.
struct KvBatch {
  std::span<const BatchSequence> sequences;  // the host's

  // For a GPU, all in its memory; `sequences` is empty while a recorded step is replayed.
  const std::int32_t* row_sequence = nullptr;    // [T] which of the S sequences a row is of
  const std::int32_t* row_position = nullptr;    // [T]
  const std::int32_t* first_row = nullptr;       // [S]
  const std::int32_t* sequence_rows = nullptr;   // [S]
  const std::int32_t* first_position = nullptr;  // [S]
  const std::int32_t* pages = nullptr;           // [S, page_stride]
  std::int64_t page_stride = 0;
  std::int64_t rows = 0, count = 0;                // T, S
  std::int64_t most_rows = 0, most_positions = 0;  // of a sequence: no more than these; positions count those before the batch too
};

// Writes k, v [T, G, E] (rows `stride` floats apart) into the pages of their sequences.
struct KvRows {
  const float* k;
  const float* v;
  std::int64_t stride;
};
void kv_store(Device& device, const KvLayer& layer, const KvBatch& batch, const KvRows& rows);

// qkv [T, (H + 2 G) E] queries, keys and values side by side, rows `stride` floats apart: turns queries, where they are wanted, and
// keys to their positions (kernels/rope.h), and writes keys and values into their pages. Keys in qkv need not be turned afterwards.
struct RopeStore {
  float* qkv;
  std::int64_t heads, stride;  // H
  const float* rope_table;     // [T, E / 2, 2]
  RopePairing pairing;
  bool with_queries;
};
void rope_and_store(Device& device, const KvLayer& layer, const KvBatch& batch, const RopeStore& rows);

}  // namespace puna
