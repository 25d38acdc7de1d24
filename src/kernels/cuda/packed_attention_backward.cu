// SPDX-License-Identifier: Apache-2.0
// Backward on tensor cores, in two kernels that each make the weights p anew from the kept log_sum_exp, so that no sum is shared
// between blocks and every run gives the same bits (7 products where Dao, 2023, algorithm 2, has 5 and adds up dq in memory):
//   keys own:    dv += p^T dout,  dk += ds^T q,  over all queries that see them, of all heads that share the keys
//   queries own: dq += ds k,                     over all keys that they see
// Both see p and ds with the rows that the block owns as rows, so that they go from one product to the next in registers.
// Causal tiles of keys differ in length and are too few to even that out over the processors. So two warps share their rows: each
// scores its half of what they meet, and they add up at the end.
#include <algorithm>
#include <cmath>

#include "kernels/cuda/context.h"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/packed_attention_plan.h"
#include "kernels/cuda/packed_attention_tiles.h"

namespace puna::cuda {
namespace {

// A round: `groups` key/value heads from first_group on, each with the `shared` query heads that share it.
struct Task {
  const __nv_bfloat16 *q, *dout;    // [groups * shared, T, W]
  const __nv_bfloat16 *k, *v;       // [groups, T, W]
  const RowStatistics* statistics;  // [groups * shared, T], log_sum_exp log2(e)
  TileList query_tiles, key_tiles;
  std::int64_t row_count;  // T
  int groups, shared, first_group;
  int head_width;       // E
  float scale;          // 1 / sqrt(E)
  float *dq, *dk, *dv;  // [T, H, E], [T, G, E], [T, G, E], rows `stride` floats apart
  std::int64_t stride;
};

// What a block is: kRowWarps * kColumnWarps warps. Warp i owns kTiles * 16 rows, those at i % kRowWarps, and scores kColumns of the
// kStageRows that the block meets at a time, then the next but kColumnWarps - 1. In the block's memory lie the two tensors it owns,
// 2 × [kTileRows, kWidth], the stages, [2] × 2 × [kStageRows, kWidth], and what belongs to them.
template <int kWidth_, int kRowWarps_, int kColumnWarps_, int kTiles_, int kStageRows_, int kColumns_, int kBlocks_>
struct Geometry {
  static constexpr int kWidth = kWidth_, kTiles = kTiles_, kStageRows = kStageRows_, kColumns = kColumns_;
  static constexpr int kRowWarps = kRowWarps_, kColumnWarps = kColumnWarps_, kThreads = 32 * kRowWarps * kColumnWarps;
  static constexpr int kWarpRows = 16 * kTiles, kTileRows = kRowWarps * kWarpRows;
  static constexpr int kColumnTiles = kColumns / 8, kWidthTiles = kWidth / 8;
  static constexpr int kBlocks = kBlocks_;                                                             // of a processor at once
  static constexpr int kTile = kTileRows * kWidth, kStage = kStageRows * kWidth, kStages = 2 * kTile;  // numbers
  static constexpr std::size_t kSharedBytes =
      (2 * kTile + 4 * kStage) * sizeof(__nv_bfloat16) + 2 * kStageRows * sizeof(RowStatistics);
  static_assert(kThreads >= kStageRows && kStageRows % (kColumns * kColumnWarps) == 0);
  static_assert(kTileRows * (kColumnWarps - 1) * sizeof(float) <= 4 * kStageRows * sizeof(__nv_bfloat16), "room for their sums");
};
template <int kWidth>
struct Choice;
template <>
struct Choice<64> {
  using KeysOwn = Geometry<64, 2, 2, 2, 128, 32, 2>;
  using QueriesOwn = Geometry<64, 4, 1, 2, 64, 32, 2>;
  static constexpr bool kHoldsQueries = true;
};
template <>
struct Choice<128> {
  using KeysOwn = Geometry<128, 4, 1, 1, 64, 64, 2>;
  using QueriesOwn = Geometry<128, 4, 1, 2, 32, 32, 2>;
  static constexpr bool kHoldsQueries = false;
};

// sums * factor -> rows of E floats, `stride` apart, `rows` of them.
template <int kTiles, int kWidthTiles>
__device__ __forceinline__ void store(WarpTile<kTiles, kWidthTiles>& sums, float factor, float* to, std::int64_t stride, int rows,
                                      int head_width) {
  for_each_value<kTiles, kWidthTiles>(sums, [&](const Place& place, float value) {
    if (place.row < rows && place.column < head_width) to[place.row * stride + place.column] = value * factor;
  });
}

// Adds up the sums of the warps that own the same rows, in the first of them, through the block's memory: of each other warp
// [values of a lane / 4][row warp][lane].
template <class G>
__device__ __forceinline__ void gather_sums(WarpTile<G::kTiles, G::kWidthTiles>& sums, float4* memory) {
  constexpr int kPart = G::kTiles * G::kWidthTiles * G::kRowWarps * 32;
  const int thread = static_cast<int>(threadIdx.x), part = thread / 32 / G::kRowWarps;
  const auto place = [&](int of_part, int r, int n) -> float4& {
    return memory[of_part * kPart + (r * G::kWidthTiles + n) * G::kRowWarps * 32 + thread % (G::kRowWarps * 32)];
  };
#pragma unroll
  for (int r = 0; r < G::kTiles; ++r) {
#pragma unroll
    for (int n = 0; n < G::kWidthTiles; ++n) {
      if (part > 0) place(part - 1, r, n) = {sums[r][n][0], sums[r][n][1], sums[r][n][2], sums[r][n][3]};
    }
  }
  __syncthreads();
#pragma unroll
  for (int r = 0; r < G::kTiles; ++r) {
#pragma unroll
    for (int n = 0; n < G::kWidthTiles; ++n) {
      for (int other = 0; part == 0 && other < G::kColumnWarps - 1; ++other) {
        const float4 more = place(other, r, n);
        sums[r][n][0] += more.x, sums[r][n][1] += more.y, sums[r][n][2] += more.z, sums[r][n][3] += more.w;
      }
    }
  }
  __syncthreads();  // before others write here
}

template <class G>
__global__ void __launch_bounds__(G::kThreads, G::kBlocks) differentiate_keys(Task task) {
  allow_next_kernel();
  PUNA_DYNAMIC_SHARED(__nv_bfloat16, memory);
  auto* const statistics = reinterpret_cast<RowStatistics*>(memory + G::kStages + 4 * G::kStage);  // [2][kStageRows]
  const PackedTile tile = task.key_tiles.tiles[blockIdx.x / static_cast<unsigned>(task.groups)];
  const int group = static_cast<int>(blockIdx.x % static_cast<unsigned>(task.groups));
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  const int own = thread / 32 % G::kRowWarps * G::kWarpRows;  // the warp's first row in the tile
  const int first_column = thread / 32 / G::kRowWarps * G::kColumns;
  const std::int64_t head_size = task.row_count * G::kWidth;
  const auto copy_stage = [&](const Stage& stage, int buffer) {
    __nv_bfloat16* const to = memory + G::kStages + 2 * buffer * G::kStage;
    copy_rows<G::kWidth, G::kStageRows, G::kThreads>(to, task.q + stage.head * head_size, stage.row, stage.rows);
    copy_rows<G::kWidth, G::kStageRows, G::kThreads>(to + G::kStage, task.dout + stage.head * head_size, stage.row, stage.rows);
    copy_async_commit();
  };
  const auto statistics_of = [&](const Stage& stage) {
    return thread < stage.rows ? task.statistics[stage.head * task.row_count + stage.row + thread] : RowStatistics{};
  };

  WarpTile<G::kTiles, G::kWidthTiles> dk, dv;
  clear<G::kTiles, G::kWidthTiles>(dk);
  clear<G::kTiles, G::kWidthTiles>(dv);
  const SharedRows<G::kWidth, G::kTiles> keys = {memory, own * G::kWidth}, values = {memory, G::kTile + own * G::kWidth};
  StageWalk<G::kStageRows> walk(tile, task.key_tiles.spans, group * task.shared, task.shared);
  copy_rows<G::kWidth, G::kTileRows, G::kThreads>(memory, task.k + group * head_size, tile.own.row, tile.own.rows);
  copy_rows<G::kWidth, G::kTileRows, G::kThreads>(memory + G::kTile, task.v + group * head_size, tile.own.row, tile.own.rows);
  copy_stage(walk.stage(), 0);
  RowStatistics next = statistics_of(walk.stage());
  for (int buffer = 0; !walk.at_end(); buffer ^= 1) {
    const Stage stage = walk.stage();
    walk.advance();
    if (thread < G::kStageRows) statistics[buffer * G::kStageRows + thread] = next;
    copy_async_wait<0>();
    __syncthreads();  // the stage has come, and nobody reads the other one any more
    if (!walk.at_end()) {
      copy_stage(walk.stage(), buffer ^ 1);
      next = statistics_of(walk.stage());
    }
#pragma unroll
    for (int step = 0; step < G::kStageRows; step += G::kColumns * G::kColumnWarps) {
      const int first = step + first_column;
      const Meeting<G::kWarpRows, G::kColumns, false> meeting = {tile.own.row + own, stage.row + first, stage.rows - first,
                                                                 stage.causal};
      if (meeting.none_visible()) continue;
      const int q = G::kStages + 2 * buffer * G::kStage + first * G::kWidth, dout = q + G::kStage;
      const RowStatistics* const of_columns = statistics + buffer * G::kStageRows + first;
      WarpTile<G::kTiles, G::kColumnTiles> p, ds;
      multiply<G::kWidth, G::kTiles, G::kColumnTiles>(p, keys, memory, q);
      multiply<G::kWidth, G::kTiles, G::kColumnTiles>(ds, values, memory, dout);
      hide<G::kTiles, G::kColumnTiles>(p, meeting);
#pragma unroll
      for (int n = 0; n < G::kColumnTiles; ++n) {
        const auto [sum_0, delta_0, sum_1, delta_1] = *reinterpret_cast<const float4*>(of_columns + 8 * n + lane % 4 * 2);
#pragma unroll
        for (int r = 0; r < G::kTiles; ++r) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            p[r][n][i] = exp2_approx(p[r][n][i] * (task.scale * kLog2E) - (i % 2 == 0 ? sum_0 : sum_1));
            ds[r][n][i] = p[r][n][i] * (ds[r][n][i] - (i % 2 == 0 ? delta_0 : delta_1));
          }
        }
      }
      accumulate<G::kWidth, G::kTiles, G::kColumnTiles>(dv, p, memory, dout);
      accumulate<G::kWidth, G::kTiles, G::kColumnTiles>(dk, ds, memory, q);
    }
  }
  if constexpr (G::kColumnWarps > 1) {
    __syncthreads();  // nobody reads the stages any more
    auto* const others = reinterpret_cast<float4*>(memory + G::kStages);
    gather_sums<G>(dk, others);
    gather_sums<G>(dv, others);
    if (first_column > 0) return;
  }
  const std::int64_t at = (tile.own.row + own) * task.stride + std::int64_t{task.first_group + group} * task.head_width;
  store<G::kTiles, G::kWidthTiles>(dk, task.scale, task.dk + at, task.stride, tile.own.rows - own, task.head_width);
  store<G::kTiles, G::kWidthTiles>(dv, 1, task.dv + at, task.stride, tile.own.rows - own, task.head_width);
}

// Needs nothing from differentiate_keys: its blocks begin where that one's last blocks leave room. Only the last block waits for
// it, so that both have ended when this one has.
template <class G, bool kHolds>
__global__ void __launch_bounds__(G::kThreads, G::kBlocks) differentiate_queries(Task task) {
  PUNA_DYNAMIC_SHARED(__nv_bfloat16, memory);
  const auto heads = static_cast<unsigned>(task.groups * task.shared);
  const PackedTile tile = task.query_tiles.tiles[blockIdx.x / heads];
  const int head = static_cast<int>(blockIdx.x % heads);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  const int own = thread / 32 * G::kWarpRows;  // the warp's first row in the tile
  const std::int64_t head_size = task.row_count * G::kWidth;
  const auto copy_stage = [&](const Stage& stage, int buffer) {
    __nv_bfloat16* const to = memory + G::kStages + 2 * buffer * G::kStage;
    copy_rows<G::kWidth, G::kStageRows, G::kThreads>(to, task.k + stage.head * head_size, stage.row, stage.rows);
    copy_rows<G::kWidth, G::kStageRows, G::kThreads>(to + G::kStage, task.v + stage.head * head_size, stage.row, stage.rows);
    copy_async_commit();
  };

  RowStatistics statistics[G::kTiles][2];  // of the rows that this lane has a part of
#pragma unroll
  for (int r = 0; r < G::kTiles; ++r) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = own + 16 * r + 8 * half + lane / 4;
      statistics[r][half] = row < tile.own.rows ? task.statistics[head * task.row_count + tile.own.row + row] : RowStatistics{};
    }
  }
  WarpTile<G::kTiles, G::kWidthTiles> dq;
  clear<G::kTiles, G::kWidthTiles>(dq);
  StageWalk<G::kStageRows> walk(tile, task.query_tiles.spans, head / task.shared, 1);
  copy_rows<G::kWidth, G::kTileRows, G::kThreads>(memory, task.q + head * head_size, tile.own.row, tile.own.rows);
  copy_rows<G::kWidth, G::kTileRows, G::kThreads>(memory + G::kTile, task.dout + head * head_size, tile.own.row, tile.own.rows);
  copy_async_commit();
  copy_stage(walk.stage(), 0);
  copy_async_wait<1>();
  __syncthreads();  // the queries have come
  using Shared = SharedRows<G::kWidth, G::kTiles>;
  const OwnRows<kHolds, G::kWidth, G::kTiles> queries(Shared{memory, own * G::kWidth});
  const OwnRows<kHolds, G::kWidth, G::kTiles> gradients(Shared{memory, G::kTile + own * G::kWidth});
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
      WarpTile<G::kTiles, G::kColumnTiles> p, ds;
      multiply<G::kWidth, G::kTiles, G::kColumnTiles>(p, queries, memory, keys);
      multiply<G::kWidth, G::kTiles, G::kColumnTiles>(ds, gradients, memory, values);
      hide<G::kTiles, G::kColumnTiles>(p, meeting);
      for_each_value<G::kTiles, G::kColumnTiles>(ds, [&](const Place& place, float& value) {
        const RowStatistics& of_row = statistics[place.tile][place.half];
        const float weight = exp2_approx(p[place.tile][place.column_tile][place.i] * (task.scale * kLog2E) - of_row.log_sum_exp);
        value = weight * (value - of_row.delta);
      });
      accumulate<G::kWidth, G::kTiles, G::kColumnTiles>(dq, ds, memory, keys);
    }
  }
  const int all_head = task.first_group * task.shared + head;
  store<G::kTiles, G::kWidthTiles>(dq, task.scale,
                                   task.dq + (tile.own.row + own) * task.stride + std::int64_t{all_head} * task.head_width,
                                   task.stride, tile.own.rows - own, task.head_width);
  if (blockIdx.x == gridDim.x - 1) wait_for_previous_kernel();
}

template <int kWidth>
void differentiate_round(GpuContext& gpu, const Task& task) {
  using KeysOwn = typename Choice<kWidth>::KeysOwn;
  using QueriesOwn = typename Choice<kWidth>::QueriesOwn;
  constexpr const char* kName = "packed_attention_backward";
  constexpr auto* queries_kernel = differentiate_queries<QueriesOwn, Choice<kWidth>::kHoldsQueries>;
  allow_shared(differentiate_keys<KeysOwn>, KeysOwn::kSharedBytes, kName);
  launch(gpu, kName, differentiate_keys<KeysOwn>, dim3(task.key_tiles.count * static_cast<unsigned>(task.groups)),
         dim3(KeysOwn::kThreads), KeysOwn::kSharedBytes, false, task);
  allow_shared(queries_kernel, QueriesOwn::kSharedBytes, kName);
  launch(gpu, kName, queries_kernel, dim3(task.query_tiles.count * static_cast<unsigned>(task.groups * task.shared)),
         dim3(QueriesOwn::kThreads), QueriesOwn::kSharedBytes, true, task);
}

template <int kWidth>
void list_tiles(GpuContext& gpu, std::span<const PackedSegment> segments, Task& task) {
  task.key_tiles = stage_key_tiles(gpu, segments, Choice<kWidth>::KeysOwn::kTileRows);
  task.query_tiles = stage_query_tiles(gpu, segments, Choice<kWidth>::QueriesOwn::kTileRows);
}

}  // namespace

void packed_attention_backward(Device& device, const PackedRows& rows, std::span<const PackedSegment> segments,
                               const PackedAttentionGradient& gradient) {
  GpuContext& gpu = context_of(device);
  const std::int64_t count = row_count(segments), width = rows.head_width, shared = rows.heads / rows.kv_heads;
  if (count == 0) return;
  const RoundedShape shape = rounded_shape(gpu, rows, count, kBackwardTensors);
  if (shape.groups == 0) return packed_attention_backward_float(gpu, rows, segments, gradient);
  Task task{};
  task.row_count = count;
  task.shared = static_cast<int>(shared);
  task.head_width = static_cast<int>(width);
  task.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(width)));
  task.dq = gradient.dq, task.dk = gradient.dk, task.dv = gradient.dv, task.stride = gradient.stride;
  shape.width == 64 ? list_tiles<64>(gpu, segments, task) : list_tiles<128>(gpu, segments, task);
  for (std::int64_t group = 0; group < rows.kv_heads; group += shape.groups) {
    const std::int64_t groups = std::min(shape.groups, rows.kv_heads - group), heads = groups * shared, head = group * shared;
    const std::int64_t head_size = count * shape.width;
    auto* const q = reinterpret_cast<__nv_bfloat16*>(gpu.decoded);
    __nv_bfloat16 *const dout = q + heads * head_size, *const k = dout + heads * head_size, *const v = k + groups * head_size;
    const int q_heads = static_cast<int>(heads), kv_heads = static_cast<int>(groups);
    round_rows(gpu,
               {.q = {rows.q + head * width, q_heads, q},
                .k = {rows.k + group * width, kv_heads, k},
                .v = {rows.v + group * width, kv_heads, v}},
               rows.stride, count, width, shape.width);
    task.statistics = gather_statistics(gpu, rows, gradient, count, kLog2E, {head, heads, dout, shape.width});
    task.q = q, task.dout = dout, task.k = k, task.v = v;
    task.groups = kv_heads, task.first_group = static_cast<int>(group);
    shape.width == 64 ? differentiate_round<64>(gpu, task) : differentiate_round<128>(gpu, task);
  }
}

}  // namespace puna::cuda
