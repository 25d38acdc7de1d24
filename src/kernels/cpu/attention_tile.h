// SPDX-License-Identifier: Apache-2.0
// The unit of attention's work on the CPU: some consecutive rows of one sequence, with all query heads that share one head of keys.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/kv_pages.h"

namespace puna {

// Query rows m = token * shared + i: token `token` of the tile, query head `i` of those that share the key/value head.
struct QueryTile {
  std::int64_t head_width;  // E
  std::int64_t shared;      // H / G
  std::int64_t tokens;
  const float* q;  // [tokens, shared, E], tokens `q_stride` floats apart
  std::int64_t q_stride;
  float* out;  // [tokens, shared, E], tokens `out_stride` floats apart
  std::int64_t out_stride;
};

// A tile of a sequence whose keys and values are in pages.
struct AttentionTile : QueryTile {
  Format format;
  std::int64_t first_position;          // the tokens' positions are first_position + [0, tokens)
  std::span<const std::int32_t> pages;  // of the sequence
  const std::byte* keys;                // this head's part of page 0
  const std::byte* values;
  std::int64_t page_stride;  // bytes from a page to the next: G heads
};

// Writes out. The sums of a row depend on its position alone, not on the tile it is in.
void attend_tile(const AttentionTile& tile);

}  // namespace puna
