// SPDX-License-Identifier: Apache-2.0
// What comes before the kernels of packed attention: the list of their tiles, operands rounded to BF16, and each row's statistics.
// A block of a kernel owns the rows of one tile (queries, or keys with their values) for one head and meets, stage by stage, the
// rows on the other side that see them or that they see: `spans` in full, `causal` up to the diagonal.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>
#include <span>

#include "kernels/cuda/context.h"
#include "kernels/packed_attention.h"

namespace puna::cuda {

// Rows [row, row + rows) of the batch, at least one.
struct RowSpan {
  int row, rows;
};

struct PackedTile {
  RowSpan own;
  RowSpan causal;  // queries own: the keys of their segment up to the last of them; keys own: their segment from the first on
  int first_span, spans;  // of TileList::spans; queries own: the prefix; keys own: the segments that have theirs as prefix
};

// In the GPU's memory; the tiles that meet the most rows come first, so that the last blocks to run are short ones.
struct TileList {
  const PackedTile* tiles;
  const RowSpan* spans;
  unsigned count;
};
TileList stage_query_tiles(GpuContext& gpu, std::span<const PackedSegment> segments, int tile_rows);
TileList stage_key_tiles(GpuContext& gpu, std::span<const PackedSegment> segments, int tile_rows);

inline std::int64_t row_count(std::span<const PackedSegment> segments) {
  return segments.empty() ? 0 : segments.back().first_row + segments.back().rows;
}

// Operands of the tensor cores lie head by head, [heads, T, W] in BF16, W = 64 or 128: E and zeros behind it. They take
// gpu.decoded, so a long batch is worked on in rounds of `groups` key/value heads with the query heads that share them.
struct RoundedShape {
  int width = 0;  // W
  std::int64_t groups =
      0;  // of a round; 0: run in F32, for the context asks for it, E does not fit, or one group of backward does not
};
// query_tensors: how many tensors have H heads; two more, k and v, have G. Forward and backward agree on the precision.
inline constexpr int kForwardTensors = 1;   // q
inline constexpr int kBackwardTensors = 2;  // q, dout
RoundedShape rounded_shape(const GpuContext& gpu, const PackedRows& rows, std::int64_t row_count, int query_tensors);

// Heads [0, heads) of rows, and where they go.
struct Rounding {
  const float* from;
  int heads;
  __nv_bfloat16* to;  // [heads, T, W]
};
struct RoundedTensors {
  Rounding q, k, v;
};
// Rows `stride` floats apart.
void round_rows(GpuContext& gpu, const RoundedTensors& tensors, std::int64_t stride, std::int64_t row_count,
                std::int64_t head_width, int width);

// What backward knows of a query row and head.
struct RowStatistics {
  float log_sum_exp;  // times the factor asked for
  float delta;        // sum_e dout out
};
// Query heads [first, first + count), and where their dout goes rounded, [count, T, width]; null: nowhere.
struct HeadsOfRound {
  std::int64_t first, count;
  __nv_bfloat16* dout = nullptr;
  int width = 0;
};
// -> [heads.count, T] in the workspace
const RowStatistics* gather_statistics(GpuContext& gpu, const PackedRows& rows, const PackedAttentionGradient& gradient,
                                       std::int64_t row_count, float factor, const HeadsOfRound& heads);

// The kernels in F32, of any strides and E up to 256 (kernels/cuda/packed_attention_float.cu).
void packed_attention_forward_float(GpuContext& gpu, const PackedRows& rows, std::span<const PackedSegment> segments, float* out,
                                    float* log_sum_exp);
void packed_attention_backward_float(GpuContext& gpu, const PackedRows& rows, std::span<const PackedSegment> segments,
                                     const PackedAttentionGradient& gradient);

}  // namespace puna::cuda
