// SPDX-License-Identifier: Apache-2.0
// The units of packed attention's work on the CPU. A unit writes what no other unit writes, so it does not matter who computes it.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/packed_attention.h"

namespace puna {

// Forward: tokens [first, first + tokens) of a segment with all query heads of one key/value head.
struct PackedTile {
  const PackedRows* rows;
  PackedSegment segment;
  std::int64_t group, first, tokens;  // `first` counts from the segment's first row
  float* out;                         // [T, H, E]
  float* log_sum_exp;                 // [T, H]
};
void attend_packed_tile(const PackedTile& tile);

// Backward: one key/value head, and the segments that see each other: a prefix and those that begin with it. Writes their dk, dv of
// the head and dq of the heads that share it.
struct PackedFamily {
  const PackedRows* rows;
  const PackedAttentionGradient* gradient;
  std::span<const PackedSegment> segments;
  std::span<const std::int32_t> members;  // of segments, in order
  std::int64_t group;
  const float* deltas;  // [T, H] sum_e dout out
};
void attend_packed_family(const PackedFamily& family);

// deltas of rows [begin, end)
void attention_deltas(const PackedRows& rows, const PackedAttentionGradient& gradient, std::int64_t begin, std::int64_t end,
                      float* deltas);

}  // namespace puna
