// SPDX-License-Identifier: Apache-2.0
// Attention of many rows on tensor cores, bound by arithmetic. A block takes kTileRows packed rows of a sequence with one key/value
// head, each of its four warps 32 of them; pages come one after the other into two halves of shared memory, the next while the
// warps compute. Pages that no row may see are not read. Late tiles, which have most pages, start first.
#include <type_traits>

#include "kernels/cuda/attention_warp.h"

namespace puna::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * 32;
constexpr int kRowTiles = 2;  // of 16 rows, of a warp: what it reads of keys and values serves both
constexpr int kWarpRows = 16 * kRowTiles;
constexpr int kTileRows = kWarps * kWarpRows;
constexpr int kPage = static_cast<int>(kPagePositions);

template <class Value, int E>
struct PrefillShared {
  using Number = typename TileNumber<Value>::Type;
  static constexpr int kPageBytes = kPage * SharedRows<Value, E>::kRowBytes;

  std::byte queries[kTileRows * SharedRows<Number, E>::kRowBytes];
  std::byte pages[2][2][kPageBytes];  // keys, values
};

struct RowTile {
  SequenceView sequence;
  int g, first, rows;  // packed rows [first, first + rows)
};

// Asks for the page's keys and values; positions after `last` are zeros.
template <class Value, int E>
__device__ __forceinline__ void ask_page(const AttentionWork& work, const RowTile& tile, int page, int last,
                                         std::byte (&to)[2][PrefillShared<Value, E>::kPageBytes]) {
  using Rows = SharedRows<Value, E>;
  const std::int64_t id = tile.sequence.pages[page];
  const std::int64_t from = (id * work.groups + tile.g) * kPage * Rows::kRowBytes;
#pragma unroll 2
  for (int piece = threadIdx.x; piece < kPage * Rows::kPieces; piece += kThreads) {
    const int row = piece / Rows::kPieces, offset = Rows::offset(row, piece % Rows::kPieces);
    const bool exists = page * kPage + row <= last;
    copy_async_16(to[0] + offset, work.keys + from + piece * 16, exists);
    copy_async_16(to[1] + offset, work.values + from + piece * 16, exists);
  }
  copy_async_commit();
}

// One warp's rows with the keys of a page: scores [tile of 16 rows][tile of 8 keys].
template <class Value, int E>
__device__ __forceinline__ void score_page(float (&scores)[kRowTiles][kPage / 8][4], const std::byte* queries,
                                           const std::byte* keys) {
  using Number = typename TileNumber<Value>::Type;
  constexpr int kAtOnce = kStepsAtOnce<Value>;
#pragma unroll
  for (int load = 0; load < E / 16 / kAtOnce; ++load) {
    unsigned a[kAtOnce][kRowTiles][4];
#pragma unroll
    for (int i = 0; i < kAtOnce * kRowTiles; ++i) {
      load_queries<Number, E>(a[i / kRowTiles][i % kRowTiles], queries, threadIdx.x / 32 * kWarpRows + i % kRowTiles * 16,
                              load * kAtOnce + i / kRowTiles);
    }
#pragma unroll
    for (int key = 0; key < kPage; key += 16) {
      unsigned b[kAtOnce][2][2];
      load_keys<Value, E>(b, keys, key, load);
#pragma unroll
      for (int i = 0; i < kAtOnce * kRowTiles * 2; ++i) {
        const int step = i / (kRowTiles * 2), tile = i / 2 % kRowTiles;
        mma_16x8x16(scores[tile][key / 8 + i % 2], a[step][tile], b[step][i % 2], Number{});
      }
    }
  }
}

// sums += weights of the page's positions × their values
template <class Value, int E>
__device__ __forceinline__ void add_values(float (&sums)[kRowTiles][E / 8][4], const float (&scores)[kRowTiles][kPage / 8][4],
                                           const std::byte* values) {
  using Number = typename TileNumber<Value>::Type;
  constexpr int kAtOnce = kStepsAtOnce<Value>;
#pragma unroll
  for (int key = 0; key < kPage; key += 16) {
    unsigned a[kRowTiles][4];
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile) weights_of<Number>(a[tile], scores[tile], key / 16);
#pragma unroll
    for (int load = 0; load < E / 16 / kAtOnce; ++load) {
      unsigned b[2 * kAtOnce][2];
      load_values<Value, E>(b, values, key, load);
#pragma unroll
      for (int i = 0; i < 2 * kAtOnce * kRowTiles; ++i) {
        mma_16x8x16(sums[i % kRowTiles][load * 2 * kAtOnce + i / kRowTiles], a[i % kRowTiles], b[i / kRowTiles], Number{});
      }
    }
  }
}

// Hides positions that the 16 rows from packed row `row` on may not see.
__device__ __forceinline__ void mask(float (&scores)[kPage / 8][4], const AttentionWork& work, const RowTile& tile, int row,
                                     int page) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int seen = work.position(tile.sequence, tile.first + row + lane / 4 + 8 * half) - page * kPage - lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < kPage / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if (8 * n + i > seen) scores[n][2 * half + i] = -INFINITY;
      }
    }
  }
}

// A warp's rows of the tile that exist -> out.
template <class Value, int E>
__device__ __forceinline__ void write_rows(const AttentionWork& work, const RowTile& tile, int row, const SoftmaxState& state,
                                           const float (&sums)[E / 8][4]) {
  float whole[2];
  float* out[2];
  for (int half = 0; half < 2; ++half) {
    float sum = state.sum[half];
    sum += __shfl_xor_sync(~0u, sum, 1);
    sum += __shfl_xor_sync(~0u, sum, 2);
    whole[half] = 1 / sum;
    const int mine = row + threadIdx.x % 32 / 4 + 8 * half;
    out[half] = mine < tile.rows ? work.result(tile.sequence, tile.g, tile.first + mine) : nullptr;
  }
  for_each_pair<Value>(sums, [&](int r, int e, float x, float y) {
    const int half = r / 8;
    if (out[half]) *reinterpret_cast<float2*>(out[half] + e) = make_float2(x * whole[half], y * whole[half]);
  });
}

// Grid: [G, tiles of the longest sequence, S].
template <class Value, int E>
__global__ void __launch_bounds__(kThreads) prefill_kernel(AttentionWork work, RowBounds bounds) {
  PUNA_DYNAMIC_SHARED(std::byte, memory);
  auto& shared = *reinterpret_cast<PrefillShared<Value, E>*>(memory);
  wait_for_previous_kernel();
  allow_next_kernel();
  RowTile tile = {work.sequence(blockIdx.z), static_cast<int>(blockIdx.x), 0, 0};
  const int packed_rows = tile.sequence.rows * work.shared, tiles = (packed_rows + kTileRows - 1) / kTileRows;
  if (tile.sequence.rows <= bounds.above || static_cast<int>(blockIdx.y) >= tiles) return;
  tile.first = (tiles - 1 - static_cast<int>(blockIdx.y)) * kTileRows;
  tile.rows = min(packed_rows - tile.first, kTileRows);
  const int last = work.position(tile.sequence, tile.first + tile.rows - 1);
  const int row = threadIdx.x / 32 * kWarpRows;  // the warp's first in the tile
  const int warp_last = row < tile.rows ? work.position(tile.sequence, tile.first + min(row + kWarpRows, tile.rows) - 1) : -1;
  const int open_pages =
      (work.position(tile.sequence, tile.first + row) + 1) / kPage;  // that all of the warp's rows see as a whole
  ask_page<Value, E>(work, tile, 0, last, shared.pages[0]);
  store_queries<Value, E, kTileRows, 1, kWarps>(work, tile.sequence, tile.g, tile.first, tile.rows, shared.queries);

  SoftmaxState state[kRowTiles];
  float sums[kRowTiles][E / 8][4] = {};
  for (int page = 0; page * kPage <= last; ++page) {
    copy_async_wait<0>();
    __syncthreads();
    if ((page + 1) * kPage <= last) ask_page<Value, E>(work, tile, page + 1, last, shared.pages[(page + 1) % 2]);
    if (page * kPage > warp_last) continue;
    float scores[kRowTiles][kPage / 8][4] = {};
    score_page<Value, E>(scores, shared.queries, shared.pages[page % 2][0]);
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
      if (page >= open_pages) mask(scores[i], work, tile, row + 16 * i, page);
      float fade[2];
      soften(scores[i], state[i], work.scale, fade);
      fade_sums(sums[i], fade);
    }
    add_values<Value, E>(sums, scores, shared.pages[page % 2][1]);
  }
#pragma unroll
  for (int i = 0; i < kRowTiles; ++i) write_rows<Value, E>(work, tile, row + 16 * i, state[i], sums[i]);
}

template <class Value, int E>
void launch_prefill(GpuContext& gpu, const KvBatch& batch, const AttentionWork& work, RowBounds bounds) {
  constexpr std::size_t kBytes = sizeof(PrefillShared<Value, E>);
  allow_shared(prefill_kernel<Value, E>, kBytes, "attention");
  const dim3 grid(static_cast<unsigned>(work.groups), blocks_for(static_cast<std::int64_t>(bounds.most) * work.shared, kTileRows),
                  static_cast<unsigned>(batch.count));
  launch(gpu, "attention of many rows", prefill_kernel<Value, E>, grid, kThreads, kBytes, true, work, bounds);
}

}  // namespace

void attend_by_tiles(GpuContext& gpu, const KvLayer& layer, const KvBatch& batch, const AttentionWork& work, RowBounds bounds) {
  with_kv_values(layer.format, "attention", [&]<class Value>(Value) {
    if constexpr (!std::is_same_v<Value, float>) {
      if (layer.head_width == 64) return launch_prefill<Value, 64>(gpu, batch, work, bounds);
      launch_prefill<Value, 128>(gpu, batch, work, bounds);
    }
  });
}

}  // namespace puna::cuda
