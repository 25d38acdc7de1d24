// SPDX-License-Identifier: Apache-2.0
// Attention without tensor cores, in F32, for keys and values in F32 and for any width up to kMostWidth. A block takes up to 16
// packed rows, each of its four warps every fourth of them; half a page at a time lies in shared memory as F32. A lane has the
// score of one of its 32 positions, and sums of every 32nd channel. Few rows are split as in attention_split.h.
#include <cmath>

#include "base/error.h"
#include "kernels/cuda/attention_split.h"
#include "kernels/cuda/kv_values.h"
#include "kernels/cuda/mma.h"

namespace puna::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * 32;
constexpr int kWarpRows = kSplitRows / kWarps;
constexpr int kChunk = 32;  // positions in shared memory
constexpr int kMostWidth = 256;
constexpr int kPage = static_cast<int>(kPagePositions);

// The block's shared memory. Rows of keys are an odd number of floats apart, so lanes that read one each meet in no bank.
struct PlainShared {
  float* keys;     // [kChunk, pitch]
  float* values;   // [kChunk, pitch]
  float* queries;  // [kSplitRows, pitch]; the sums at the end
  float2* scales;  // [kSplitRows]: greatest exponent of 2, sum
  int pitch;

  __device__ PlainShared(float* memory, int width) : pitch(width | 1) {
    scales = reinterpret_cast<float2*>(memory);
    keys = memory + 2 * kSplitRows;
    values = keys + kChunk * pitch;
    queries = values + kChunk * pitch;
  }
  static std::size_t bytes(std::int64_t width) {
    return static_cast<std::size_t>((2 * kChunk + kSplitRows) * (width | 1) + 2 * kSplitRows) * sizeof(float);
  }
};

// Positions [first, first + kChunk) of a page -> keys, values; positions after the tile's last are zeros.
template <class Value>
__device__ void load_chunk(const AttentionWork& work, const SplitTile& tile, int first, const PlainShared& shared) {
  const std::int64_t page = tile.sequence.pages[first / kPage];
  const std::int64_t from = ((page * work.groups + tile.g) * kPage + first % kPage) * work.width;
  const int count = min(kChunk, tile.last_position + 1 - first) * work.width;
  for (int i = threadIdx.x; i < kChunk * work.width; i += kThreads) {
    const int to = i / work.width * shared.pitch + i % work.width;
    shared.keys[to] = i < count ? widened(reinterpret_cast<const Value*>(work.keys)[from + i]) : 0;
    shared.values[to] = i < count ? widened(reinterpret_cast<const Value*>(work.values)[from + i]) : 0;
  }
}

// One row's state in a warp.
struct PlainRow {
  float top = -INFINITY, sum = 0;    // the same in all lanes
  float sums[kMostWidth / 32] = {};  // of channels lane + 32 i
};

// A row sees positions [first, seen_until] of the chunk; there is at least one.
__device__ void attend_chunk(const AttentionWork& work, const PlainShared& shared, const float* query, int seen, PlainRow& row) {
  const int lane = threadIdx.x % 32;
  const float* const key = shared.keys + lane * shared.pitch;
  float score = 0;
  for (int e = 0; e < work.width; ++e) score += query[e] * key[e];
  score = lane < seen ? score * work.scale : -INFINITY;
  float top = fmaxf(row.top, score);
  for (int i = 16; i > 0; i /= 2) top = fmaxf(top, __shfl_xor_sync(~0u, top, i));
  const float fade = exp2f(row.top - top), weight = exp2f(score - top);
  float sum = weight;
  for (int i = 16; i > 0; i /= 2) sum += __shfl_xor_sync(~0u, sum, i);
  row.top = top;
  row.sum = row.sum * fade + sum;
#pragma unroll
  for (int i = 0; i < kMostWidth / 32; ++i) row.sums[i] *= fade;
  for (int s = 0; s < min(seen, kChunk); ++s) {
    const float share = __shfl_sync(~0u, weight, s);
    const float* const value = shared.values + s * shared.pitch;
#pragma unroll
    for (int i = 0; i < kMostWidth / 32; ++i) {
      if (lane + 32 * i < work.width) row.sums[i] += share * value[lane + 32 * i];
    }
  }
}

// The block: attention of the tile to positions [begin, end) -> queries, scales.
template <class Value>
__device__ void attend_positions(const AttentionWork& work, const SplitTile& tile, int begin, int end, const PlainShared& shared) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (int i = threadIdx.x; i < tile.rows * work.width; i += kThreads) {
    const int row = i / work.width, e = i % work.width;
    shared.queries[row * shared.pitch + e] = work.query(tile.sequence, tile.g, tile.first + row)[e];
  }
  PlainRow rows[kWarpRows];
  for (int first = begin; first < end; first += kChunk) {
    __syncthreads();
    load_chunk<Value>(work, tile, first, shared);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kWarpRows; ++i) {
      const int row = warp + i * kWarps, seen = work.position(tile.sequence, tile.first + row) + 1 - first;
      if (row < tile.rows && seen > 0) attend_chunk(work, shared, shared.queries + row * shared.pitch, seen, rows[i]);
    }
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kWarpRows; ++i) {
    const int row = warp + i * kWarps;
#pragma unroll
    for (int part = 0; part < kMostWidth / 32; ++part) {
      if (lane + 32 * part < work.width) shared.queries[row * shared.pitch + lane + 32 * part] = rows[i].sums[part];
    }
    if (lane == 0) shared.scales[row] = make_float2(rows[i].top, rows[i].sum);
  }
}

// Grid: [tiles slots, G, S].
template <class Value>
__global__ void __launch_bounds__(kThreads) plain_kernel(AttentionWork work, SplitPlan plan) {
  PUNA_DYNAMIC_SHARED(float, memory);
  const PlainShared shared(memory, work.width);
  wait_for_previous_kernel();
  allow_next_kernel();
  const SplitTile tile = split_tile(work, plan);
  if (tile.rows == 0) return;
  const int split_positions = plan.pages * kPage;
  for (int split = blockIdx.x / plan.tiles; split < tile.splits; split += plan.slots) {
    const int begin = split * split_positions, end = min(begin + split_positions, tile.last_position + 1);
    attend_positions<Value>(work, tile, begin, end, shared);
    __syncthreads();
    for (int i = threadIdx.x; i < tile.rows * work.width; i += kThreads) {
      const int row = i / work.width, e = i % work.width;
      put_split_sum(work, plan, tile, split, row, e, shared.queries[row * shared.pitch + e], shared.scales[row]);
    }
    finish_split(work, plan, tile);
    __syncthreads();
  }
}

}  // namespace

void attend_plainly(GpuContext& gpu, const KvLayer& layer, const KvBatch& batch, const AttentionWork& work, RowBounds bounds) {
  PUNA_CHECK(work.width <= kMostWidth, "attention", "heads of {} numbers, expected at most {} on a GPU", work.width, kMostWidth);
  const SplitPlan plan = plan_splits(gpu, batch, work, bounds);
  const std::size_t bytes = PlainShared::bytes(work.width);
  const dim3 grid(plan.blocks(), static_cast<unsigned>(work.groups), static_cast<unsigned>(batch.count));
  with_kv_values(layer.format, "attention", [&]<class Value>(Value) {
    allow_shared(plain_kernel<Value>, bytes, "attention");
    launch(gpu, "attention", plain_kernel<Value>, grid, kThreads, bytes, true, work, plan);
  });
}

}  // namespace puna::cuda
