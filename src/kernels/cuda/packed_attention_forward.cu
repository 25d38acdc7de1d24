// SPDX-License-Identifier: Apache-2.0
// Forward on tensor cores (Dao, 2023, algorithm 1): a block of 4 warps owns 128 queries of one head, 32 to a warp, and meets 64
// keys with their values at a time. Of each query it keeps a base of its weights (its greatest score, or little less), the sum of
// the weights and the weighted sum of values so far.
#include "kernels/cuda/cuda_kernels.h"

#include <algorithm>
#include <cmath>

#include "kernels/cuda/context.h"
#include "kernels/cuda/packed_attention_plan.h"
#include "kernels/cuda/packed_attention_tiles.h"

namespace puna::cuda {
namespace {

constexpr int kTiles = 2;  // of 16 queries, to a warp

template <int kWidth_>
struct Geometry {
  static constexpr int kWidth = kWidth_, kWidthTiles = kWidth / 8;
  static constexpr int kWarps = 4, kThreads = 32 * kWarps, kWarpRows = 16 * kTiles, kTileRows = kWarps * kWarpRows;
  static constexpr int kStageRows = 64;
  // Keys that are scored at once: narrow heads leave room for a third block on a processor.
  static constexpr int kColumns = kWidth == 64 ? 32 : 64, kColumnTiles = kColumns / 8;
  static constexpr int kBlocks = kWidth == 64 ? 3 : 2;
  static constexpr bool kHoldsQueries = kWidth == 64;
  // Of the block's memory: the queries, [kTileRows, kWidth], and behind them the stages, [2][keys, values][kStageRows, kWidth].
  static constexpr int kStages = kTileRows * kWidth, kStage = kStageRows * kWidth;  // numbers
  static constexpr std::size_t kSharedBytes = (kStages + 4 * kStage) * sizeof(__nv_bfloat16);
};

// A round: `heads` query heads from first_head on, `shared` of them to a key/value head.
struct Task {
  const __nv_bfloat16* q;      // [heads, T, W]
  const __nv_bfloat16 *k, *v;  // [heads / shared, T, W]
  TileList tiles;
  std::int64_t row_count;  // T
  int heads, shared, first_head;
  int all_heads, head_width;  // H, E
  float scale;                // 1 / sqrt(E)
  float* out;                 // [T, H, E]
  float* log_sum_exp;         // [T, H]
};

// Of each row that a lane has a part of: [tile of 16 rows][upper, lower half].
using RowValues = float[kTiles][2];

__device__ __forceinline__ float greatest_of_row(float value) {
  value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 1));
  return fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 2));
}
__device__ __forceinline__ float sum_of_row(float value) {
  value += __shfl_xor_sync(0xffffffffu, value, 1);
  return value + __shfl_xor_sync(0xffffffffu, value, 2);
}

// Weights are exp(scale (score - base)). A row's base is the greatest score so far, or less by no more than a factor 2^kSlack of
// the weights: the sums need to be scaled anew only when it moves.
constexpr float kSlack = 8;

// scores -> weights; bases, totals (this lane's part) and sums follow. `factor` is scale log2(e).
template <class G>
__device__ __forceinline__ void weigh(WarpTile<kTiles, G::kColumnTiles>& scores, float factor, RowValues& bases, RowValues& totals,
                                      WarpTile<kTiles, G::kWidthTiles>& sums) {
  RowValues shrink;
  bool moved = false;
#pragma unroll
  for (int r = 0; r < kTiles; ++r) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float greatest = -INFINITY;
#pragma unroll
      for (int n = 0; n < G::kColumnTiles; ++n) {
        greatest = fmaxf(greatest, fmaxf(scores[r][n][2 * half], scores[r][n][2 * half + 1]));
      }
      greatest = greatest_of_row(greatest);
      const bool moves = (greatest - bases[r][half]) * factor > kSlack;
      shrink[r][half] = moves ? exp2_approx((bases[r][half] - greatest) * factor) : 1.0f;
      bases[r][half] = moves ? greatest : bases[r][half];
      totals[r][half] *= shrink[r][half];
      moved |= moves;
    }
  }
  if (__any_sync(0xffffffffu, moved)) {
    for_each_value<kTiles, G::kWidthTiles>(sums, [&](const Place& place, float& sum) { sum *= shrink[place.tile][place.half]; });
  }
  for_each_value<kTiles, G::kColumnTiles>(scores, [&](const Place& place, float& score) {
    score = exp2_approx(score * factor - bases[place.tile][place.half] * factor);
    totals[place.tile][place.half] += score;
  });
}

// The warp's rows, the first of them at batch row `first`, `rows` of which there are.
template <class G>
__device__ __forceinline__ void store(const Task& task, int head, int first, int rows, const RowValues& bases, RowValues& totals,
                                      WarpTile<kTiles, G::kWidthTiles>& sums) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int r = 0; r < kTiles; ++r) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float total = sum_of_row(totals[r][half]);
      totals[r][half] = 1 / total;
      const int row = 16 * r + 8 * half + lane / 4;
      if (lane % 4 == 0 && row < rows) {
        task.log_sum_exp[std::int64_t{first + row} * task.all_heads + head] = bases[r][half] * task.scale + logf(total);
      }
    }
  }
  float* const out = task.out + (std::int64_t{first} * task.all_heads + head) * task.head_width;
  const std::int64_t stride = std::int64_t{task.all_heads} * task.head_width;
  for_each_value<kTiles, G::kWidthTiles>(sums, [&](const Place& place, float sum) {
    if (place.row < rows && place.column < task.head_width) {
      out[place.row * stride + place.column] = sum * totals[place.tile][place.half];
    }
  });
}

template <class G>
__global__ void __launch_bounds__(G::kThreads, G::kBlocks) attend_queries(Task task) {
  PUNA_DYNAMIC_SHARED(__nv_bfloat16, memory);
  const PackedTile tile = task.tiles.tiles[blockIdx.x / static_cast<unsigned>(task.heads)];
  const int head = static_cast<int>(blockIdx.x % static_cast<unsigned>(task.heads));
  const int own = static_cast<int>(threadIdx.x) / 32 * G::kWarpRows;  // the warp's first row in the tile
  const std::int64_t head_size = task.row_count * G::kWidth;
  const auto copy_stage = [&](const Stage& stage, int buffer) {
    __nv_bfloat16* const to = memory + G::kStages + 2 * buffer * G::kStage;
    copy_rows<G::kWidth, G::kStageRows, G::kThreads>(to, task.k + stage.head * head_size, stage.row, stage.rows);
    copy_rows<G::kWidth, G::kStageRows, G::kThreads>(to + G::kStage, task.v + stage.head * head_size, stage.row, stage.rows);
    copy_async_commit();
  };

  WarpTile<kTiles, G::kWidthTiles> sums;
  clear<kTiles, G::kWidthTiles>(sums);
  RowValues bases, totals;
  for (int r = 0; r < kTiles; ++r) {
    for (int half = 0; half < 2; ++half) {
      bases[r][half] = -INFINITY;
      totals[r][half] = 0;
    }
  }
  StageWalk<G::kStageRows> walk(tile, task.tiles.spans, head / task.shared, 1);
  copy_rows<G::kWidth, G::kTileRows, G::kThreads>(memory, task.q + head * head_size, tile.own.row, tile.own.rows);
  copy_async_commit();
  copy_stage(walk.stage(), 0);
  copy_async_wait<1>();
  __syncthreads();  // the queries have come
  const OwnRows<G::kHoldsQueries, G::kWidth, kTiles> queries(SharedRows<G::kWidth, kTiles>{memory, own * G::kWidth});
  for (int buffer = 0; !walk.at_end(); buffer ^= 1) {
    const Stage stage = walk.stage();
    walk.advance();
    copy_async_wait<0>();
    __syncthreads();  // the stage has come, and nobody reads the other one any more
    if (!walk.at_end()) copy_stage(walk.stage(), buffer ^ 1);
#pragma unroll
    for (int first = 0; first < G::kStageRows; first += G::kColumns) {
      const Meeting<G::kWarpRows, G::kColumns, true> meeting = {tile.own.row + own, stage.row + first, stage.rows - first,
                                                                stage.causal};
      if (meeting.none_visible()) continue;
      const int keys = G::kStages + 2 * buffer * G::kStage + first * G::kWidth, values = keys + G::kStage;
      WarpTile<kTiles, G::kColumnTiles> scores;
      multiply<G::kWidth, kTiles, G::kColumnTiles>(scores, queries, memory, keys);
      hide<kTiles, G::kColumnTiles>(scores, meeting);
      weigh<G>(scores, task.scale * kLog2E, bases, totals, sums);
      accumulate<G::kWidth, kTiles, G::kColumnTiles>(sums, scores, memory, values);
    }
  }
  store<G>(task, task.first_head + head, tile.own.row + own, tile.own.rows - own, bases, totals, sums);
}

template <class G>
void attend_round(GpuContext& gpu, const Task& task) {
  allow_shared(attend_queries<G>, G::kSharedBytes, "packed_attention_forward");
  launch(gpu, "packed_attention_forward", attend_queries<G>, dim3(task.tiles.count * static_cast<unsigned>(task.heads)),
         dim3(G::kThreads), G::kSharedBytes, false, task);
}

}  // namespace

void packed_attention_forward(Device& device, const PackedRows& rows, std::span<const PackedSegment> segments, float* out,
                              float* log_sum_exp) {
  GpuContext& gpu = context_of(device);
  const std::int64_t count = row_count(segments), width = rows.head_width, shared = rows.heads / rows.kv_heads;
  if (count == 0) return;
  const RoundedShape shape = rounded_shape(gpu, rows, count, kForwardTensors);
  if (shape.groups == 0) return packed_attention_forward_float(gpu, rows, segments, out, log_sum_exp);
  Task task{};
  task.tiles = shape.width == 64 ? stage_query_tiles(gpu, segments, Geometry<64>::kTileRows)
                                 : stage_query_tiles(gpu, segments, Geometry<128>::kTileRows);
  task.row_count = count;
  task.shared = static_cast<int>(shared);
  task.all_heads = static_cast<int>(rows.heads), task.head_width = static_cast<int>(width);
  task.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(width)));
  task.out = out, task.log_sum_exp = log_sum_exp;
  for (std::int64_t group = 0; group < rows.kv_heads; group += shape.groups) {
    const std::int64_t groups = std::min(shape.groups, rows.kv_heads - group), heads = groups * shared;
    const std::int64_t head_size = count * shape.width;
    auto* const q = reinterpret_cast<__nv_bfloat16*>(gpu.decoded);
    __nv_bfloat16 *const k = q + heads * head_size, *const v = k + groups * head_size;
    const int q_heads = static_cast<int>(heads), kv_heads = static_cast<int>(groups);
    round_rows(gpu,
               {.q = {rows.q + group * shared * width, q_heads, q},
                .k = {rows.k + group * width, kv_heads, k},
                .v = {rows.v + group * width, kv_heads, v}},
               rows.stride, count, width, shape.width);
    task.q = q, task.k = k, task.v = v;
    task.heads = q_heads, task.first_head = static_cast<int>(group * shared);
    shape.width == 64 ? attend_round<Geometry<64>>(gpu, task) : attend_round<Geometry<128>>(gpu, task);
  }
}

}  // namespace puna::cuda
