// SPDX-License-Identifier: Apache-2.0
// Tiles of packed attention, listed on the host; two kernels that read every operand once: one rounds q, k and v to BF16 (a block
// for a row of the batch, a thread for 8 values at a time), the other gathers the statistics of each row and head and rounds dout
// on the way (8 lanes for a row and head, a block for kStatisticsRows rows of one head).
#include "kernels/cuda/packed_attention_plan.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/error.h"
#include "tensor/format.h"

namespace puna::cuda {
namespace {

constexpr int kChunk = 8;  // BF16 numbers in 16 bytes
constexpr int kRoundingThreads = 128;
constexpr int kStatisticsThreads = 256, kStatisticsLanes = 8, kStatisticsRows = kStatisticsThreads / kStatisticsLanes;

// Chunk [column, column + kChunk) of a row of `width` numbers, zeros behind them. kVectors: rows begin at a multiple of 16 bytes
// and have a multiple of 4 numbers.
template <bool kVectors>
__device__ __forceinline__ void load_chunk(float (&values)[kChunk], const float* row, int column, int width) {
  if constexpr (kVectors) {
#pragma unroll
    for (int e = 0; e < kChunk; e += 4) {
      const float4 four = column + e < width ? *reinterpret_cast<const float4*>(row + column + e) : float4{0, 0, 0, 0};
      values[e] = four.x, values[e + 1] = four.y, values[e + 2] = four.z, values[e + 3] = four.w;
    }
  } else {
#pragma unroll
    for (int e = 0; e < kChunk; ++e) values[e] = column + e < width ? row[column + e] : 0.0f;
  }
}

// to: at a multiple of 16 bytes.
__device__ __forceinline__ void store_rounded(__nv_bfloat16* to, const float (&values)[kChunk]) {
  alignas(16) __nv_bfloat162 rounded[kChunk / 2];
#pragma unroll
  for (int e = 0; e < kChunk / 2; ++e) rounded[e] = __floats2bfloat162_rn(values[2 * e], values[2 * e + 1]);
  *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(rounded);
}

template <bool kVectors, int kWidth>
__global__ void __launch_bounds__(kRoundingThreads)
    round_rows_kernel(RoundedTensors tensors, std::int64_t stride, std::int64_t row_count, int head_width) {
  constexpr int kChunks = kWidth / kChunk;
  const std::int64_t row = blockIdx.x;
  const int chunks = (tensors.q.heads + tensors.k.heads + tensors.v.heads) * kChunks;
  for (int i = static_cast<int>(threadIdx.x); i < chunks; i += kRoundingThreads) {
    const int column = i % kChunks * kChunk;
    int head = i / kChunks;
    Rounding rounding = tensors.q;
    if (head >= tensors.q.heads) {
      head -= tensors.q.heads;
      const bool of_k = head < tensors.k.heads;
      rounding = of_k ? tensors.k : tensors.v;
      head -= of_k ? 0 : tensors.k.heads;
    }
    float values[kChunk];
    load_chunk<kVectors>(values, rounding.from + row * stride + std::int64_t{head} * head_width, column, head_width);
    store_rounded(rounding.to + (head * row_count + row) * kWidth + column, values);
  }
}

struct StatisticsTask {
  const float *out, *dout, *log_sum_exp;  // [T, H, E], [T, H, E], [T, H]
  std::int64_t row_count;                 // T
  int all_heads, head_width;              // H, E
  int first_head, heads;                  // those asked for
  float factor;
  RowStatistics* statistics;  // [heads, T]
  __nv_bfloat16* rounded;     // dout, [heads, T, width], or null
  int width;
};

template <bool kVectors>
__global__ void __launch_bounds__(kStatisticsThreads) gather_statistics_kernel(StatisticsTask task) {
  const int lane = static_cast<int>(threadIdx.x) % kStatisticsLanes, head = static_cast<int>(blockIdx.x) % task.heads;
  const std::int64_t row =
      std::int64_t{static_cast<int>(blockIdx.x) / task.heads} * kStatisticsRows + threadIdx.x / kStatisticsLanes;
  const std::int64_t i = row * task.all_heads + task.first_head + head;
  float delta = 0;
  if (row < task.row_count) {
    for (int column = kChunk * lane; column < task.width; column += kChunk * kStatisticsLanes) {
      float out[kChunk], dout[kChunk];
      load_chunk<kVectors>(out, task.out + i * task.head_width, column, task.head_width);
      load_chunk<kVectors>(dout, task.dout + i * task.head_width, column, task.head_width);
#pragma unroll
      for (int e = 0; e < kChunk; ++e) delta += dout[e] * out[e];
      if (task.rounded != nullptr) store_rounded(task.rounded + (head * task.row_count + row) * task.width + column, dout);
    }
  }
#pragma unroll
  for (int step = kStatisticsLanes / 2; step > 0; step /= 2) delta += __shfl_xor_sync(0xffffffffu, delta, step);
  if (lane == 0 && row < task.row_count) {
    task.statistics[head * task.row_count + row] = {task.log_sum_exp[i] * task.factor, delta};
  }
}

bool in_vectors(const float* rows, std::int64_t stride) {
  return reinterpret_cast<std::uintptr_t>(rows) % 16 == 0 && stride % 4 == 0;
}

RowSpan span_of(std::int64_t row, std::int64_t rows) { return {static_cast<int>(row), static_cast<int>(rows)}; }

struct Tiles {
  std::vector<PackedTile> tiles;
  std::vector<RowSpan> spans;
};

TileList stage_tiles(GpuContext& gpu, Tiles& list) {
  const auto cost = [&](const PackedTile& tile) {
    std::int64_t rows = tile.causal.rows;
    for (int i = 0; i < tile.spans; ++i) rows += list.spans[static_cast<std::size_t>(tile.first_span + i)].rows;
    return rows;
  };
  std::vector<std::pair<std::int64_t, PackedTile>> ordered;
  for (const PackedTile& tile : list.tiles) ordered.emplace_back(cost(tile), tile);
  std::stable_sort(ordered.begin(), ordered.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  std::transform(ordered.begin(), ordered.end(), list.tiles.begin(), [](const auto& entry) { return entry.second; });
  if (list.spans.empty()) list.spans.push_back({0, 0});  // never read
  return {static_cast<const PackedTile*>(stage(gpu, list.tiles.data(), list.tiles.size() * sizeof(PackedTile))),
          static_cast<const RowSpan*>(stage(gpu, list.spans.data(), list.spans.size() * sizeof(RowSpan))),
          static_cast<unsigned>(list.tiles.size())};
}

}  // namespace

TileList stage_query_tiles(GpuContext& gpu, std::span<const PackedSegment> segments, int tile_rows) {
  Tiles list;
  for (const PackedSegment& segment : segments) {
    const auto first_span = static_cast<int>(list.spans.size());
    if (segment.prefix_rows > 0) list.spans.push_back(span_of(segment.prefix_row, segment.prefix_rows));
    const int spans = static_cast<int>(list.spans.size()) - first_span;
    for (std::int64_t first = 0; first < segment.rows; first += tile_rows) {
      const std::int64_t count = std::min<std::int64_t>(tile_rows, segment.rows - first);
      list.tiles.push_back(
          {span_of(segment.first_row + first, count), span_of(segment.first_row, first + count), first_span, spans});
    }
  }
  return stage_tiles(gpu, list);
}

TileList stage_key_tiles(GpuContext& gpu, std::span<const PackedSegment> segments, int tile_rows) {
  std::vector<const PackedSegment*> followers;  // by their prefix, in the order of the batch
  for (const PackedSegment& segment : segments) {
    if (segment.prefix_rows > 0) followers.push_back(&segment);
  }
  std::stable_sort(followers.begin(), followers.end(),
                   [](const PackedSegment* a, const PackedSegment* b) { return a->prefix_row < b->prefix_row; });
  Tiles list;
  auto follower = followers.begin();
  for (const PackedSegment& segment : segments) {
    const auto first_span = static_cast<int>(list.spans.size());
    for (; follower != followers.end() && (*follower)->prefix_row == segment.first_row; ++follower) {
      list.spans.push_back(span_of((*follower)->first_row, (*follower)->rows));
    }
    const int spans = static_cast<int>(list.spans.size()) - first_span;
    for (std::int64_t first = 0; first < segment.rows; first += tile_rows) {
      const std::int64_t row = segment.first_row + first, left = segment.rows - first;
      list.tiles.push_back({span_of(row, std::min<std::int64_t>(tile_rows, left)), span_of(row, left), first_span, spans});
    }
  }
  return stage_tiles(gpu, list);
}

RoundedShape rounded_shape(const GpuContext& gpu, const PackedRows& rows, std::int64_t row_count, int query_tensors) {
  if (gpu.gradient_format != Format::kBF16 || rows.head_width % 16 != 0 || rows.head_width > 128) return {};
  const int width = rows.head_width <= 64 ? 64 : 128;
  const auto groups_of_round = [&](int tensors) {
    const std::int64_t heads = tensors * (rows.heads / rows.kv_heads) + 2;
    const auto bytes = static_cast<std::size_t>(heads * row_count * width) * sizeof(__nv_bfloat16);
    return static_cast<std::int64_t>(gpu.decoded_bytes / bytes);
  };
  if (groups_of_round(kBackwardTensors) == 0) return {};
  const std::int64_t most = std::min(rows.kv_heads, groups_of_round(query_tensors));
  const std::int64_t rounds = (rows.kv_heads + most - 1) / most;
  return {width, (rows.kv_heads + rounds - 1) / rounds};  // rounds of like size
}

void round_rows(GpuContext& gpu, const RoundedTensors& tensors, std::int64_t stride, std::int64_t row_count,
                std::int64_t head_width, int width) {
  const bool vectors = head_width % 4 == 0 && in_vectors(tensors.q.from, stride) && in_vectors(tensors.k.from, stride) &&
                       in_vectors(tensors.v.from, stride);
  const auto kernel = width == 64 ? (vectors ? round_rows_kernel<true, 64> : round_rows_kernel<false, 64>)
                                  : (vectors ? round_rows_kernel<true, 128> : round_rows_kernel<false, 128>);
  launch(gpu, "packed_attention", kernel, dim3(static_cast<unsigned>(row_count)), dim3(kRoundingThreads), 0, false, tensors, stride,
         row_count, head_width);
}

const RowStatistics* gather_statistics(GpuContext& gpu, const PackedRows& rows, const PackedAttentionGradient& gradient,
                                       std::int64_t row_count, float factor, const HeadsOfRound& heads) {
  const auto bytes = static_cast<std::size_t>(row_count * heads.count) * sizeof(RowStatistics);
  PUNA_CHECK(bytes <= gpu.workspace_bytes, "packed_attention", "{} rows of {} heads: their sums do not fit in the workspace",
             row_count, heads.count);
  StatisticsTask task{};
  task.out = gradient.out, task.dout = gradient.dout, task.log_sum_exp = gradient.log_sum_exp;
  task.row_count = row_count;
  task.all_heads = static_cast<int>(rows.heads), task.head_width = static_cast<int>(rows.head_width);
  task.first_head = static_cast<int>(heads.first), task.heads = static_cast<int>(heads.count);
  task.factor = factor;
  task.statistics = static_cast<RowStatistics*>(gpu.workspace);
  task.rounded = heads.dout;
  task.width = heads.dout != nullptr ? heads.width : task.head_width;
  const bool vectors = rows.head_width % 4 == 0 && in_vectors(gradient.out, 0) && in_vectors(gradient.dout, 0);
  launch(gpu, "packed_attention", vectors ? gather_statistics_kernel<true> : gather_statistics_kernel<false>,
         dim3(blocks_for(row_count, kStatisticsRows) * static_cast<unsigned>(heads.count)), dim3(kStatisticsThreads), 0, false,
         task);
  return task.statistics;
}

}  // namespace puna::cuda
