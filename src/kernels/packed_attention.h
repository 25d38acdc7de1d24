// SPDX-License-Identifier: Apache-2.0
// Causal grouped-query attention over rows that bring their own keys and values (a packed training batch), forward and backward:
//   p[t, h, s] = softmax_s(q[t, h] · k[s, h / (H / G)] / sqrt(E)),   out[t, h] = sum_s p[t, h, s] v[s, h / (H / G)]
// A row sees the rows of its own segment up to itself and all rows of the segment's prefix. Documents of a packed row are segments
// without a prefix; several answers to one prompt are segments whose prefix is the prompt, and do not see each other.
// Backward recomputes p from the kept log sum of exponentials (Dao, 2023, algorithm 2); no T × S matrix is ever stored:
//   dv += p^T dout,   ds = p (dout · v - sum_e dout out),   dq = ds k / sqrt(E),   dk = ds^T q / sqrt(E)
// Sums run in an order that depends only on the segments: any number of threads gives equal bits.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/device.h"

namespace puna {

// Rows [first_row, first_row + rows) of the batch; prefix rows [prefix_row, prefix_row + prefix_rows), none where prefix_rows is 0.
// Segments are in order and cover the batch; a prefix lies before its segment and is the whole of another segment.
struct PackedSegment {
  std::int64_t first_row, rows;
  std::int64_t prefix_row = 0, prefix_rows = 0;
};

// The segment that begins at `segment`'s prefix_row, or one beyond where none does.
std::span<const PackedSegment>::iterator prefix_of(std::span<const PackedSegment> segments, const PackedSegment& segment);

// q [T, H, E], k and v [T, G, E], each with rows `stride` floats apart.
struct PackedRows {
  const float* q;
  const float* k;
  const float* v;
  std::int64_t stride;
  std::int64_t heads, kv_heads, head_width;  // H, G, E
};

// -> out [T, H, E] and log_sum_exp [T, H] of the scaled scores, both dense.
void packed_attention_forward(Device& device, const PackedRows& rows, std::span<const PackedSegment> segments, float* out,
                              float* log_sum_exp);

// dq [T, H, E], dk and dv [T, G, E] are replaced; rows `stride` floats apart.
struct PackedAttentionGradient {
  const float* out;          // [T, H, E] as forward left it
  const float* log_sum_exp;  // [T, H]
  const float* dout;         // [T, H, E]
  float* dq;
  float* dk;
  float* dv;
  std::int64_t stride;
};
void packed_attention_backward(Device& device, const PackedRows& rows, std::span<const PackedSegment> segments,
                               const PackedAttentionGradient& gradient);

}  // namespace puna
