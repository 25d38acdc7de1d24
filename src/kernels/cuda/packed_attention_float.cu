// SPDX-License-Identifier: Apache-2.0
// Packed attention in F32, for rows of any stride and heads of any width up to 256: the same tiles and stages as on tensor cores. A
// block of 16 × 16 threads owns kTiles * 16 rows and meets 32 rows at a time, all in shared memory; thread (y, x) scores rows
// y + 16 i with columns x + 16 j, and keeps the sums of rows y + 16 i in columns x + 16 j.
#include <cmath>

#include "base/error.h"
#include "kernels/cuda/context.h"
#include "kernels/cuda/packed_attention_plan.h"
#include "kernels/cuda/packed_attention_tiles.h"

namespace puna::cuda {
namespace {

constexpr int kSide = 16, kThreads = kSide * kSide;
constexpr int kStageRows = 32, kColumnTiles = kStageRows / kSide;
constexpr int kWeightPitch = kStageRows + 1;

// kWidth: E rounded up to 64, 128 or 256, zeros behind E.
template <int kWidth_>
struct Geometry {
  static constexpr int kWidth = kWidth_, kPitch = kWidth + 1, kWidthTiles = kWidth / kSide;
  static constexpr int kTiles = kWidth <= 128 ? 4 : 2, kTileRows = kTiles * kSide;
  static constexpr int kOwn = kTileRows * kPitch, kMet = kStageRows * kPitch, kWeights = kTileRows * kWeightPitch;  // floats
  static constexpr std::size_t kSharedBytes = (2 * kOwn + 2 * kMet + 2 * kWeights) * sizeof(float);
};

struct Task {
  PackedRows rows;
  TileList tiles;
  std::int64_t row_count;                 // T
  int heads, groups, shared, head_width;  // H, G, H / G, E
  float scale;                            // 1 / sqrt(E)
  float *out, *log_sum_exp;               // forward
  PackedAttentionGradient gradient;       // backward
  const RowStatistics* statistics;        // [H, T]
};

__device__ __forceinline__ int thread_x() { return static_cast<int>(threadIdx.x) % kSide; }
__device__ __forceinline__ int thread_y() { return static_cast<int>(threadIdx.x) / kSide; }

template <int kTiles, int kColumns>
using Values = float[kTiles][kColumns];  // of one thread

template <int kTiles, int kColumns>
__device__ __forceinline__ void clear(Values<kTiles, kColumns>& values) {
#pragma unroll
  for (int i = 0; i < kTiles; ++i) {
#pragma unroll
    for (int j = 0; j < kColumns; ++j) values[i][j] = 0;
  }
}

// `count` rows of width E, `stride` floats apart -> kRows rows of shared memory, zeros around them.
template <class G, int kRows>
__device__ __forceinline__ void load_rows(float* to, const float* from, std::int64_t stride, int count, int head_width) {
  for (int i = static_cast<int>(threadIdx.x); i < kRows * G::kWidth; i += kThreads) {
    const int r = i / G::kWidth, e = i % G::kWidth;
    to[r * G::kPitch + e] = r < count && e < head_width ? from[r * stride + e] : 0.0f;
  }
}

// scores = own rows · met rows
template <class G>
__device__ __forceinline__ void multiply(Values<G::kTiles, kColumnTiles>& scores, const float* own, const float* met,
                                         int head_width) {
  clear<G::kTiles, kColumnTiles>(scores);
#pragma unroll 4
  for (int e = 0; e < head_width; ++e) {
    float a[G::kTiles], b[kColumnTiles];
#pragma unroll
    for (int i = 0; i < G::kTiles; ++i) a[i] = own[(thread_y() + kSide * i) * G::kPitch + e];
#pragma unroll
    for (int j = 0; j < kColumnTiles; ++j) b[j] = met[(thread_x() + kSide * j) * G::kPitch + e];
#pragma unroll
    for (int i = 0; i < G::kTiles; ++i) {
#pragma unroll
      for (int j = 0; j < kColumnTiles; ++j) scores[i][j] += a[i] * b[j];
    }
  }
}

// sums += weights · met rows; the weights of a row are shared by the half warp that scored it.
template <class G>
__device__ __forceinline__ void accumulate(Values<G::kTiles, G::kWidthTiles>& sums, const Values<G::kTiles, kColumnTiles>& weights,
                                           float* room, const float* met) {
  __syncwarp();
#pragma unroll
  for (int i = 0; i < G::kTiles; ++i) {
#pragma unroll
    for (int j = 0; j < kColumnTiles; ++j) room[(thread_y() + kSide * i) * kWeightPitch + thread_x() + kSide * j] = weights[i][j];
  }
  __syncwarp();
#pragma unroll 2
  for (int m = 0; m < kStageRows; ++m) {
    float a[G::kTiles];
#pragma unroll
    for (int i = 0; i < G::kTiles; ++i) a[i] = room[(thread_y() + kSide * i) * kWeightPitch + m];
#pragma unroll
    for (int j = 0; j < G::kWidthTiles; ++j) {
      const float b = met[m * G::kPitch + thread_x() + kSide * j];
#pragma unroll
      for (int i = 0; i < G::kTiles; ++i) sums[i][j] += a[i] * b;
    }
  }
}

// sums * factor -> `rows` rows of E floats, `stride` apart.
template <class G>
__device__ __forceinline__ void store(const Values<G::kTiles, G::kWidthTiles>& sums, const float (&factors)[G::kTiles], float* to,
                                      std::int64_t stride, int rows, int head_width) {
#pragma unroll
  for (int i = 0; i < G::kTiles; ++i) {
#pragma unroll
    for (int j = 0; j < G::kWidthTiles; ++j) {
      const int row = thread_y() + kSide * i, column = thread_x() + kSide * j;
      if (row < rows && column < head_width) to[row * stride + column] = sums[i][j] * factors[i];
    }
  }
}

// Over the half warp that shares a row.
__device__ __forceinline__ float greatest_of_row(float value) {
  for (int step = kSide / 2; step > 0; step /= 2) value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, step));
  return value;
}
__device__ __forceinline__ float sum_of_row(float value) {
  for (int step = kSide / 2; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
  return value;
}

template <class G>
__global__ void __launch_bounds__(kThreads) attend_queries_float(Task task) {
  PUNA_DYNAMIC_SHARED(float, memory);
  float *const queries = memory, *const keys = queries + G::kOwn, *const values = keys + G::kMet, *const weights = values + G::kMet;
  const PackedTile tile = task.tiles.tiles[blockIdx.x / static_cast<unsigned>(task.heads)];
  const int head = static_cast<int>(blockIdx.x % static_cast<unsigned>(task.heads)), width = task.head_width;
  const PackedRows& rows = task.rows;
  const auto row_of = [&](const float* x, int row, int h) { return x + row * rows.stride + std::int64_t{h} * width; };
  load_rows<G, G::kTileRows>(queries, row_of(rows.q, tile.own.row, head), rows.stride, tile.own.rows, width);
  Values<G::kTiles, G::kWidthTiles> sums;
  clear<G::kTiles, G::kWidthTiles>(sums);
  float maxima[G::kTiles], totals[G::kTiles];
  for (int i = 0; i < G::kTiles; ++i) maxima[i] = -INFINITY, totals[i] = 0;
  for (StageWalk<kStageRows> walk(tile, task.tiles.spans, head / task.shared, 1); !walk.at_end(); walk.advance()) {
    const Stage stage = walk.stage();
    __syncthreads();  // nobody reads the stage before any more
    load_rows<G, kStageRows>(keys, row_of(rows.k, stage.row, stage.head), rows.stride, stage.rows, width);
    load_rows<G, kStageRows>(values, row_of(rows.v, stage.row, stage.head), rows.stride, stage.rows, width);
    __syncthreads();
    const Meeting<G::kTileRows, kStageRows, true> meeting = {tile.own.row, stage.row, stage.rows, stage.causal};
    Values<G::kTiles, kColumnTiles> scores;
    multiply<G>(scores, queries, keys, width);
#pragma unroll
    for (int i = 0; i < G::kTiles; ++i) {
      float maximum = maxima[i], total = 0;
#pragma unroll
      for (int j = 0; j < kColumnTiles; ++j) {
        const bool visible = meeting.visible(thread_y() + kSide * i, thread_x() + kSide * j);
        scores[i][j] = visible ? scores[i][j] * task.scale : -INFINITY;
        maximum = fmaxf(maximum, scores[i][j]);
      }
      maximum = greatest_of_row(maximum);
      const float shrink = expf(maxima[i] - maximum);
      maxima[i] = maximum;
#pragma unroll
      for (int j = 0; j < kColumnTiles; ++j) total += scores[i][j] = expf(scores[i][j] - maximum);
      totals[i] = totals[i] * shrink + sum_of_row(total);
#pragma unroll
      for (int j = 0; j < G::kWidthTiles; ++j) sums[i][j] *= shrink;
    }
    accumulate<G>(sums, scores, weights, values);
  }
  for (int i = 0; i < G::kTiles; ++i) {
    const int row = thread_y() + kSide * i;
    if (thread_x() == 0 && row < tile.own.rows) {
      task.log_sum_exp[std::int64_t{tile.own.row + row} * task.heads + head] = maxima[i] + logf(totals[i]);
    }
    totals[i] = 1 / totals[i];
  }
  const std::int64_t stride = std::int64_t{task.heads} * width;
  store<G>(sums, totals, task.out + tile.own.row * stride + std::int64_t{head} * width, stride, tile.own.rows, width);
}

// p and ds of a stage in place of the products q · k and dout · v; statistics_at(i, j) belongs to this thread's query.
template <class G, bool kOwnsQueries, typename StatisticsAt>
__device__ __forceinline__ void differentiate(Values<G::kTiles, kColumnTiles>& p, Values<G::kTiles, kColumnTiles>& ds,
                                              const Meeting<G::kTileRows, kStageRows, kOwnsQueries>& meeting, float scale,
                                              const StatisticsAt& statistics_at) {
#pragma unroll
  for (int i = 0; i < G::kTiles; ++i) {
#pragma unroll
    for (int j = 0; j < kColumnTiles; ++j) {
      const RowStatistics statistics = statistics_at(i, j);
      const bool visible = meeting.visible(thread_y() + kSide * i, thread_x() + kSide * j);
      p[i][j] = visible ? expf(p[i][j] * scale - statistics.log_sum_exp) : 0.0f;
      ds[i][j] = visible ? p[i][j] * (ds[i][j] - statistics.delta) : 0.0f;
    }
  }
}

template <class G>
__global__ void __launch_bounds__(kThreads) differentiate_keys_float(Task task) {
  PUNA_DYNAMIC_SHARED(float, memory);
  float *const keys = memory, *const values = keys + G::kOwn, *const queries = values + G::kOwn, *const douts = queries + G::kMet;
  float* const weights = douts + G::kMet;
  const PackedTile tile = task.tiles.tiles[blockIdx.x / static_cast<unsigned>(task.groups)];
  const int group = static_cast<int>(blockIdx.x % static_cast<unsigned>(task.groups)), width = task.head_width;
  const PackedRows& rows = task.rows;
  const PackedAttentionGradient& gradient = task.gradient;
  const std::int64_t dout_stride = std::int64_t{task.heads} * width;
  const auto row_of = [&](const float* x, std::int64_t stride, int row, int h) {
    return x + row * stride + std::int64_t{h} * width;
  };
  load_rows<G, G::kTileRows>(keys, row_of(rows.k, rows.stride, tile.own.row, group), rows.stride, tile.own.rows, width);
  load_rows<G, G::kTileRows>(values, row_of(rows.v, rows.stride, tile.own.row, group), rows.stride, tile.own.rows, width);
  Values<G::kTiles, G::kWidthTiles> dk, dv;
  clear<G::kTiles, G::kWidthTiles>(dk);
  clear<G::kTiles, G::kWidthTiles>(dv);
  for (StageWalk<kStageRows> walk(tile, task.tiles.spans, group * task.shared, task.shared); !walk.at_end(); walk.advance()) {
    const Stage stage = walk.stage();
    __syncthreads();  // nobody reads the stage before any more
    load_rows<G, kStageRows>(queries, row_of(rows.q, rows.stride, stage.row, stage.head), rows.stride, stage.rows, width);
    load_rows<G, kStageRows>(douts, row_of(gradient.dout, dout_stride, stage.row, stage.head), dout_stride, stage.rows, width);
    RowStatistics statistics[kColumnTiles];
    for (int j = 0; j < kColumnTiles; ++j) {
      const int column = thread_x() + kSide * j;
      statistics[j] = column < stage.rows ? task.statistics[stage.head * task.row_count + stage.row + column] : RowStatistics{};
    }
    __syncthreads();
    const Meeting<G::kTileRows, kStageRows, false> meeting = {tile.own.row, stage.row, stage.rows, stage.causal};
    Values<G::kTiles, kColumnTiles> p, ds;
    multiply<G>(p, keys, queries, width);
    multiply<G>(ds, values, douts, width);
    differentiate<G>(p, ds, meeting, task.scale, [&](int, int j) { return statistics[j]; });
    accumulate<G>(dv, p, weights, douts);
    accumulate<G>(dk, ds, weights + G::kWeights, queries);
  }
  float scales[G::kTiles], ones[G::kTiles];
  for (int i = 0; i < G::kTiles; ++i) scales[i] = task.scale, ones[i] = 1;
  const std::int64_t at = tile.own.row * gradient.stride + std::int64_t{group} * width;
  store<G>(dk, scales, gradient.dk + at, gradient.stride, tile.own.rows, width);
  store<G>(dv, ones, gradient.dv + at, gradient.stride, tile.own.rows, width);
}

template <class G>
__global__ void __launch_bounds__(kThreads) differentiate_queries_float(Task task) {
  PUNA_DYNAMIC_SHARED(float, memory);
  float *const queries = memory, *const douts = queries + G::kOwn, *const keys = douts + G::kOwn, *const values = keys + G::kMet;
  float* const weights = values + G::kMet;
  const PackedTile tile = task.tiles.tiles[blockIdx.x / static_cast<unsigned>(task.heads)];
  const int head = static_cast<int>(blockIdx.x % static_cast<unsigned>(task.heads)), width = task.head_width;
  const PackedRows& rows = task.rows;
  const PackedAttentionGradient& gradient = task.gradient;
  const std::int64_t dout_stride = std::int64_t{task.heads} * width;
  const auto row_of = [&](const float* x, std::int64_t stride, int row, int h) {
    return x + row * stride + std::int64_t{h} * width;
  };
  load_rows<G, G::kTileRows>(queries, row_of(rows.q, rows.stride, tile.own.row, head), rows.stride, tile.own.rows, width);
  load_rows<G, G::kTileRows>(douts, row_of(gradient.dout, dout_stride, tile.own.row, head), dout_stride, tile.own.rows, width);
  RowStatistics statistics[G::kTiles];
  for (int i = 0; i < G::kTiles; ++i) {
    const int row = thread_y() + kSide * i;
    statistics[i] = row < tile.own.rows ? task.statistics[head * task.row_count + tile.own.row + row] : RowStatistics{};
  }
  Values<G::kTiles, G::kWidthTiles> dq;
  clear<G::kTiles, G::kWidthTiles>(dq);
  for (StageWalk<kStageRows> walk(tile, task.tiles.spans, head / task.shared, 1); !walk.at_end(); walk.advance()) {
    const Stage stage = walk.stage();
    __syncthreads();  // nobody reads the stage before any more
    load_rows<G, kStageRows>(keys, row_of(rows.k, rows.stride, stage.row, stage.head), rows.stride, stage.rows, width);
    load_rows<G, kStageRows>(values, row_of(rows.v, rows.stride, stage.row, stage.head), rows.stride, stage.rows, width);
    __syncthreads();
    const Meeting<G::kTileRows, kStageRows, true> meeting = {tile.own.row, stage.row, stage.rows, stage.causal};
    Values<G::kTiles, kColumnTiles> p, ds;
    multiply<G>(p, queries, keys, width);
    multiply<G>(ds, douts, values, width);
    differentiate<G>(p, ds, meeting, task.scale, [&](int i, int) { return statistics[i]; });
    accumulate<G>(dq, ds, weights, keys);
  }
  float scales[G::kTiles];
  for (int i = 0; i < G::kTiles; ++i) scales[i] = task.scale;
  store<G>(dq, scales, gradient.dq + tile.own.row * gradient.stride + std::int64_t{head} * width, gradient.stride, tile.own.rows,
           width);
}

template <class G>
void run(GpuContext& gpu, const char* what, void (*kernel)(Task), const Task& task, int heads) {
  allow_shared(kernel, G::kSharedBytes, what);
  launch(gpu, what, kernel, dim3(task.tiles.count * static_cast<unsigned>(heads)), dim3(kThreads), G::kSharedBytes, false, task);
}

template <class G>
void forward(GpuContext& gpu, std::span<const PackedSegment> segments, Task task) {
  task.tiles = stage_query_tiles(gpu, segments, G::kTileRows);
  run<G>(gpu, "packed_attention_forward", attend_queries_float<G>, task, task.heads);
}

template <class G>
void backward(GpuContext& gpu, std::span<const PackedSegment> segments, Task task) {
  constexpr const char* kName = "packed_attention_backward";
  task.tiles = stage_key_tiles(gpu, segments, G::kTileRows);
  run<G>(gpu, kName, differentiate_keys_float<G>, task, task.groups);
  task.tiles = stage_query_tiles(gpu, segments, G::kTileRows);
  run<G>(gpu, kName, differentiate_queries_float<G>, task, task.heads);
}

Task task_of(const PackedRows& rows, std::span<const PackedSegment> segments) {
  if (rows.head_width > 256) {
    fail(ErrorKind::kUnsupported, "packed_attention", "heads of width {}: a GPU trains those of up to 256", rows.head_width);
  }
  Task task{};
  task.rows = rows;
  task.row_count = row_count(segments);
  task.heads = static_cast<int>(rows.heads), task.groups = static_cast<int>(rows.kv_heads);
  task.shared = task.heads / task.groups;
  task.head_width = static_cast<int>(rows.head_width);
  task.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(rows.head_width)));
  return task;
}

}  // namespace

void packed_attention_forward_float(GpuContext& gpu, const PackedRows& rows, std::span<const PackedSegment> segments, float* out,
                                    float* log_sum_exp) {
  Task task = task_of(rows, segments);
  task.out = out, task.log_sum_exp = log_sum_exp;
  if (rows.head_width <= 64) return forward<Geometry<64>>(gpu, segments, task);
  if (rows.head_width <= 128) return forward<Geometry<128>>(gpu, segments, task);
  forward<Geometry<256>>(gpu, segments, task);
}

void packed_attention_backward_float(GpuContext& gpu, const PackedRows& rows, std::span<const PackedSegment> segments,
                                     const PackedAttentionGradient& gradient) {
  Task task = task_of(rows, segments);
  task.gradient = gradient;
  task.statistics = gather_statistics(gpu, rows, gradient, task.row_count, 1, {0, rows.heads});
  if (rows.head_width <= 64) return backward<Geometry<64>>(gpu, segments, task);
  if (rows.head_width <= 128) return backward<Geometry<128>>(gpu, segments, task);
  backward<Geometry<256>>(gpu, segments, task);
}

}  // namespace puna::cuda
