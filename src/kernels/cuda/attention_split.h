// SPDX-License-Identifier: Apache-2.0
// Attention of a few packed rows to the positions of a sequence in splits of a fixed number of pages, each by one block. A split's
// result goes to the workspace; the block that ends last for its rows adds them up in the order of the positions, so the result
// does not depend on who was last. The plan is made from bounds that hold for all replays of a recorded step: how many sequences
// there are, of how many rows and positions at most; of other sequences a result depends on these only. Blocks find out from the
// sequence how many splits it has, and blocks too many end at once.
#pragma once

#include <cmath>

#include "kernels/cuda/attention_work.h"

namespace puna::cuda {

inline constexpr int kSplitRows = 16;  // packed rows of a tile
inline constexpr int kMostSplits = 32;

struct SplitPlan {
  RowBounds bounds;  // of the sequences that are attended to
  int tiles;         // of kSplitRows packed rows
  int most;          // splits
  int pages;         // of a split
  int slots;         // blocks that share the splits of a tile
  int rows;          // packed rows that a tile may have
  bool is_wide;      // at most two splits for each processor: blocks may have more warps, and work on one split each
  float* sums;       // [S, G, tiles, most, rows, E]
  float2* scales;    // [S, G, tiles, most, rows]: greatest exponent of 2, sum
  int* arrived;      // [S, G, tiles]

  unsigned blocks() const { return static_cast<unsigned>(tiles * slots); }
};

// Sequences of more than kFewRows rows have tiles enough: one split, however long they are.
SplitPlan plan_splits(GpuContext& gpu, const KvBatch& batch, const AttentionWork& work, RowBounds bounds);

// What a block works on.
struct SplitTile {
  SequenceView sequence;
  int g, first, rows;  // packed rows [first, first + rows)
  int last_position;   // of the last of them
  int splits;          // of this tile
};

// rows is 0 where there is no such tile. The grid is [tiles slots, G, S].
inline __device__ SplitTile split_tile(const AttentionWork& work, const SplitPlan& plan) {
  SplitTile tile{};
  const int index = blockIdx.x % plan.tiles;
  tile.sequence = work.sequence(blockIdx.z);
  tile.g = blockIdx.y;
  tile.first = index * kSplitRows;
  const bool is_meant = tile.sequence.rows > plan.bounds.above && tile.sequence.rows <= plan.bounds.most;
  const int left = is_meant ? tile.sequence.rows * work.shared - tile.first : 0;
  tile.rows = left < 0 ? 0 : left < kSplitRows ? left : kSplitRows;
  tile.last_position = work.position(tile.sequence, tile.first + tile.rows - 1);
  const int pages = tile.last_position / static_cast<int>(kPagePositions) + 1;
  tile.splits = (pages + plan.pages - 1) / plan.pages;
  return tile;
}

// Which of [S, G, tiles] a block's tile is.
inline __device__ std::int64_t unit_of(const AttentionWork& work, const SplitPlan& plan, const SplitTile& tile) {
  return (static_cast<std::int64_t>(blockIdx.z) * work.groups + tile.g) * plan.tiles + tile.first / kSplitRows;
}

// Adds up the splits of a tile: a warp takes 32 channels of a row at a time, its lane i the scale of split i.
inline __device__ void combine_splits(const AttentionWork& work, const SplitPlan& plan, const SplitTile& tile) {
  const int lane = threadIdx.x % 32;
  const int parts = (work.width + 31) / 32, warps = blockDim.x / 32;
  for (int unit = threadIdx.x / 32; unit < tile.rows * parts; unit += warps) {
    const int row = unit / parts, e = unit % parts * 32 + lane;
    const std::int64_t first = unit_of(work, plan, tile) * plan.most * plan.rows + row, step = plan.rows;
    float2 scale = make_float2(-INFINITY, 0);
    if (lane < tile.splits) scale = __ldcg(plan.scales + first + lane * step);
    float top = scale.x;
    for (int i = 16; i > 0; i /= 2) top = fmaxf(top, __shfl_xor_sync(~0u, top, i));
    float weight = exp2f(scale.x - top), sum = weight * scale.y;
    for (int i = 16; i > 0; i /= 2) sum += __shfl_xor_sync(~0u, sum, i);
    weight /= sum;
    float total = 0;
#pragma unroll 8
    for (int split = 0; split < tile.splits; ++split) {
      const float share = __shfl_sync(~0u, weight, split);
      if (e < work.width) total += share * __ldcg(plan.sums + (first + split * step) * work.width + e);
    }
    if (e < work.width) work.result(tile.sequence, tile.g, tile.first + row)[e] = total;
  }
}

// A split's sum of channel e of a row, with the row's (greatest exponent of 2, sum): the result, or its place in the workspace.
inline __device__ void put_split_sum(const AttentionWork& work, const SplitPlan& plan, const SplitTile& tile, int split, int row,
                                     int e, float sum, float2 scale) {
  if (tile.splits == 1) {
    work.result(tile.sequence, tile.g, tile.first + row)[e] = sum / scale.y;
    return;
  }
  const std::int64_t place = (unit_of(work, plan, tile) * plan.most + split) * plan.rows + row;
  plan.sums[place * work.width + e] = sum;
  if (e == 0) plan.scales[place] = scale;
}

// Called by all threads of the block after the split's sums are put.
inline __device__ void finish_split(const AttentionWork& work, const SplitPlan& plan, const SplitTile& tile) {
  __shared__ bool is_last;
  if (tile.splits == 1) return;
  __syncthreads();
  if (threadIdx.x == 0) {
    int* const arrived = plan.arrived + unit_of(work, plan, tile);
    __threadfence();  // for the whole block: what its threads wrote before the barrier
    is_last = atomicAdd(arrived, 1) == tile.splits - 1;
    if (is_last) *arrived = 0;
    __threadfence();
  }
  __syncthreads();
  if (is_last) combine_splits(work, plan, tile);
}

}  // namespace puna::cuda
