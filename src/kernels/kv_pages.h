// SPDX-License-Identifier: Apache-2.0
// Keys and values of sequences in pages: how a page lies in memory, which rows of a batch go where, and the writing of them.
// Attention (kernels/attention.h) reads them; who owns the pages is model/kv_cache.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/device.h"
#include "tensor/format.h"

namespace puna {

inline constexpr std::int64_t kPagePositions = 64;

// One layer's keys and values: pools of pages in `format` (F32, F16 or Q8_0; for Q8_0 E must be a multiple of 32).
// A page of values holds one row of E for each position. A page of keys is its transpose, positions fastest, because scores of many
// positions are summed side by side; in Q8_0 each 32 channels of 64 positions are one KeyBlockQ8_0. Both take the same bytes.
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

// Writes k, v [T, G, E] (rows `stride` floats apart) into the pages of their sequences.
struct KvRows {
  const float* k;
  const float* v;
  std::int64_t stride;
};
void kv_store(Device& device, const KvLayer& layer, std::span<const BatchSequence> sequences, const KvRows& rows);

// Throws kInternal for a format or shape that has no kernel, and for positions that have no page.
void check_kv(const KvLayer& layer, std::span<const BatchSequence> sequences, const char* where);

}  // namespace puna
