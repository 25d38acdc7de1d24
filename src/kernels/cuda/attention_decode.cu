// SPDX-License-Identifier: Apache-2.0
// Attention of a few rows on tensor cores, bound by reading keys and values, each once (attention_split.h says how the positions
// are split). A block takes up to 16 packed rows and a split. Its warps take slabs of 16 positions in turn, four to a page, each
// through a ring of copies of its own, so they wait for nobody until their sums are put together at the end. Where there are few
// splits a block has eight warps, and four pages under way at once; where there are many it has four, and processors three blocks.
//
// Fused (AttentionWork::is_fused), a block turns its queries on their way to shared memory. Keys and values of the batch's own rows
// are read from the pages by nobody: every block whose split has such positions makes them itself, from the rows, as the pages will
// hold them, and that of the sequence's last tile writes them there. So no block waits for another.
//
// Then the copies of pages begin before wait_for_previous_kernel(). That they may: the kernel before this one may still run, and
// so may what that one waits for, but all are kernels of this forward pass. It began with the copy of the batch's tables to the
// GPU (model/step_input.h), which no kernel overlaps; so the tables, and keys and values of positions before the batch's rows,
// which earlier passes wrote, have been in memory since. Rows and rope table are of this pass: they are read, and pages, out and
// workspace written, after the wait only.
#include <type_traits>

#include "kernels/cuda/attention_split.h"
#include "kernels/cuda/attention_warp.h"

namespace puna::cuda {
namespace {

constexpr int kPage = static_cast<int>(kPagePositions);
constexpr int kSlab = 16;  // positions that a warp takes at a time
constexpr int kPageSlabs = kPage / kSlab;

template <class PageValue, int kWidth, int kWarpsOfBlock>
struct DecodeShape {
  using Value = PageValue;
  using Number = typename TileNumber<Value>::Type;
  static constexpr int E = kWidth, kWarps = kWarpsOfBlock, kThreads = kWarps * 32;
  static constexpr bool kIsWide = kWarps == 8;
  static constexpr int kBlocksEach = kIsWide ? 1 : 3;                  // on a processor
  static constexpr int kPagesAtOnce = kWarps / kPageSlabs;             // a slab for each warp
  static constexpr int kStages = 4 / static_cast<int>(sizeof(Value));  // a ring's
  // A query is rounded to two numbers of 16 bits in BF16, whose eight bits would show.
  static constexpr int kQueryParts = std::is_same_v<Number, __nv_bfloat16> ? 2 : 1;
  static constexpr int kQueryBytes = kSplitRows * SharedRows<Number, E>::kRowBytes;
  static constexpr int kSlabBytes = kSlab * SharedRows<Value, E>::kRowBytes;  // of keys, or of values

  struct Shared {
    std::byte rings[kWarps][kStages][2][kSlabBytes];  // keys, values; a warp's sums [16, E] at the end
    std::byte queries[kQueryParts * kQueryBytes];     // SharedRows<Number, E>
    alignas(16) Value fresh[2][kFewRows][E];          // keys, values of the batch's own rows
    float2 scales[kWarps][kSplitRows];                // greatest exponent of 2, sum
  };
  static_assert(kSplitRows * E * sizeof(float) <= kStages * 2 * kSlabBytes);
};

// Where channel e of a row lies in a warp's sums [16, E]: pairs that a warp writes at a time are in different banks.
__device__ __forceinline__ int sum_place(int row, int e, int width) { return row * width + (e ^ (row % 4 * 8)); }

// Lane i: the page of positions [64 (first + i), 64 (first + i + 1)) of sequence s, if the table has so many.
__device__ __forceinline__ int page_of_lane(const AttentionWork& work, int s, int first) {
  const int index = first + static_cast<int>(threadIdx.x % 32);
  return index < work.page_stride ? work.pages[s * work.page_stride + index] : 0;
}

// Positions of a sequence that one block attends to at a time.
struct SplitRange {
  int first_page, end_page;
  int fresh_begin, fresh_end;  // the positions among them that are not in the pages
};

__device__ __forceinline__ SplitRange range_of(const AttentionWork& work, const SplitPlan& plan, const SplitTile& tile, int split) {
  const int first = split * plan.pages, end = min(first + plan.pages, tile.last_position / kPage + 1);
  return {first, end, max(first * kPage, work.stored_until(tile.sequence)), min(end * kPage, tile.last_position + 1)};
}

// A warp's slabs of a range, copied in turn; keys and values of a slab are two groups of copies.
template <class Shape>
class SlabReader {
  using Value = typename Shape::Value;
  using Rows = SharedRows<Value, Shape::E>;
  using Ring = std::byte (&)[Shape::kStages][2][Shape::kSlabBytes];

 public:
  // ids: page_of_lane(range.first_page)
  __device__ SlabReader(const AttentionWork& work, const SplitTile& tile, const SplitRange& range, int ids, Ring ring)
      : work_(work), tile_(tile), range_(range), ids_(ids), ring_(ring) {}

  __device__ bool has(int i) const { return page(i) < range_.end_page && position(i) <= tile_.last_position; }
  __device__ int position(int i) const { return page(i) * kPage + threadIdx.x / 32 % kPageSlabs * kSlab; }

  // Asks for a slab, if there is one; in any case one more group of copies each. Keys are asked for first.
  __device__ void ask_keys(int i) {
    const int nth = page(i) - range_.first_page;
    if (has(i)) {
      if (nth >= 32 && nth % 32 < Shape::kPagesAtOnce) ids_ = page_of_lane(work_, blockIdx.z, range_.first_page + nth / 32 * 32);
      copy(work_.keys, keys(i), i);
    }
    copy_async_commit();
  }
  __device__ void ask_values(int i) {
    if (has(i)) copy(work_.values, values(i), i);
    copy_async_commit();
  }

  // The slab's positions that are not in the pages, from shared memory.
  __device__ void put_fresh(int i, const Value (&fresh)[2][kFewRows][Shape::E]) {
    const int begin = max(position(i), range_.fresh_begin), end = min(position(i) + kSlab, range_.fresh_end);
    if (begin >= end) return;
    const int lane = threadIdx.x % 32, first = begin - tile_.sequence.first_position;
    for (int piece = lane; piece < (end - begin) * Rows::kPieces; piece += 32) {
      const int row = piece / Rows::kPieces, part = piece % Rows::kPieces, offset = Rows::offset(begin - position(i) + row, part);
      *reinterpret_cast<uint4*>(keys(i) + offset) = reinterpret_cast<const uint4*>(fresh[0][first + row])[part];
      *reinterpret_cast<uint4*>(values(i) + offset) = reinterpret_cast<const uint4*>(fresh[1][first + row])[part];
    }
    __syncwarp();
  }

  __device__ std::byte* keys(int i) const { return ring_[i % Shape::kStages][0]; }
  __device__ std::byte* values(int i) const { return ring_[i % Shape::kStages][1]; }

 private:
  __device__ int page(int i) const {
    return range_.first_page + static_cast<int>(threadIdx.x / 32) / kPageSlabs + i * Shape::kPagesAtOnce;
  }

  // Positions that do not exist become zeros; those that are not in the pages are left out.
  __device__ void copy(const std::byte* pool, std::byte* to, int i) const {
    const std::int64_t id = __shfl_sync(~0u, ids_, (page(i) - range_.first_page) % 32);
    const std::byte* const from = pool + ((id * work_.groups + tile_.g) * kPage + position(i) % kPage) * Rows::kRowBytes;
    const int exist = tile_.last_position + 1 - position(i), stored = range_.fresh_begin - position(i);  // rows
#pragma unroll 4
    for (int piece = threadIdx.x % 32; piece < kSlab * Rows::kPieces; piece += 32) {
      const int row = piece / Rows::kPieces;
      std::byte* const place = to + Rows::offset(row, piece % Rows::kPieces);
      if (row < stored || row >= exist) copy_async_16(place, from + piece * 16, row < exist);
    }
  }

  const AttentionWork& work_;
  const SplitTile& tile_;
  const SplitRange& range_;
  int ids_;  // of 32 pages, one in each lane
  Ring ring_;
};

// put(e, x, y): channels e and e + 1 of a head, turned by the angles at table [E / 2, 2]. The pointers are of 8 and 16 bytes.
template <int E, class Put>
__device__ __forceinline__ void turn_head(const float* x, const float* table, RopePairing pairing, Put&& put) {
  for (int p = threadIdx.x % 32 * 2; p < E / 2; p += 64) {
    const bool are_neighbours = pairing == RopePairing::kNeighbours;
    const int e = are_neighbours ? 2 * p : p, f = are_neighbours ? 2 * p + 2 : p + E / 2;
    const float2 a = *reinterpret_cast<const float2*>(x + e), b = *reinterpret_cast<const float2*>(x + f);
    const float4 by = *reinterpret_cast<const float4*>(table + 2 * p);
    const float2 first = turned_pair(a.x, are_neighbours ? a.y : b.x, by.x, by.y);
    const float2 second = turned_pair(are_neighbours ? b.x : a.y, b.y, by.z, by.w);
    put(e, first.x, are_neighbours ? first.y : second.x);
    put(f, are_neighbours ? second.x : first.y, second.y);
  }
}

// A pair of neighbours as pages hold them.
template <class Value>
struct alignas(2 * sizeof(Value)) ValuePair {
  Value x, y;
};

// The key (part 0) or the value (part 1) of a position of the batch, made by one warp -> fresh, and to its page.
template <class Shape>
__device__ __forceinline__ void make_fresh(const AttentionWork& work, const SplitTile& tile, int position, int part,
                                           typename Shape::Shared& shared) {
  using Value = typename Shape::Value;
  constexpr int E = Shape::E;
  const int row = position - tile.sequence.first_position;
  const std::int64_t t = tile.sequence.first_row + row, page = tile.sequence.pages[position / kPage];
  const float* const from = work.key(t, tile.g) + static_cast<std::int64_t>(part) * work.groups * E;
  const bool is_last_tile = tile.first + tile.rows == tile.sequence.rows * work.shared;
  Value* const to = reinterpret_cast<Value*>(part == 0 ? work.keys : work.values) +
                    ((page * work.groups + tile.g) * kPage + position % kPage) * E;
  const auto put = [&](int e, float x, float y) {
    const ValuePair<Value> pair{rounded<Value>(x), rounded<Value>(y)};
    *reinterpret_cast<ValuePair<Value>*>(shared.fresh[part][row] + e) = pair;
    if (is_last_tile) *reinterpret_cast<ValuePair<Value>*>(to + e) = pair;
  };
  if (part == 0) return turn_head<E>(from, work.rope_table + t * E, work.pairing, put);
  for (int e = threadIdx.x % 32 * 2; e < E; e += 64) {
    const float2 pair = *reinterpret_cast<const float2*>(from + e);
    put(e, pair.x, pair.y);
  }
}

// The block: rows of the batch -> queries, fresh. The warps that have least to do with queries, the last ones, take keys and
// values.
template <class Shape>
__device__ __forceinline__ void take_rows(const AttentionWork& work, const SplitTile& tile, const SplitRange& range,
                                          typename Shape::Shared& shared) {
  using Value = typename Shape::Value;
  constexpr int E = Shape::E, kWarps = Shape::kWarps;
  if (!work.is_fused()) {
    return store_queries<Value, E, kSplitRows, Shape::kQueryParts, kWarps>(work, tile.sequence, tile.g, tile.first, tile.rows,
                                                                           shared.queries);
  }
  const int warp = threadIdx.x / 32;
  for (int unit = kWarps - 1 - warp; unit < 2 * (range.fresh_end - range.fresh_begin); unit += kWarps) {
    make_fresh<Shape>(work, tile, range.fresh_begin + unit / 2, unit % 2, shared);
  }
#pragma unroll
  for (int row = warp; row < kSplitRows; row += kWarps) {
    const auto put = [&](int e, float x, float y) {
      put_query<Value, E, kSplitRows, Shape::kQueryParts>(shared.queries, row, e, x, y);
    };
    if (row < tile.rows) {
      const int p = tile.first + row;
      const std::int64_t t = tile.sequence.first_row + p / work.shared;
      turn_head<E>(work.query(tile.sequence, tile.g, p), work.rope_table + t * E, work.pairing, put);
    } else {
      for (int e = threadIdx.x % 32 * 2; e < E; e += 64) put(e, 0, 0);
    }
  }
}

// Scores of the tile's rows with a slab. Two sums each, so that products wait for each other half as long.
template <class Shape>
__device__ __forceinline__ void score_slab(float (&scores)[2][4], const std::byte* queries, const std::byte* slab) {
  using Value = typename Shape::Value;
  using Number = typename Shape::Number;
  constexpr int kAtOnce = kStepsAtOnce<Value>;
  float twice[2][2][4] = {};
#pragma unroll
  for (int load = 0; load < Shape::E / 16 / kAtOnce; ++load) {
    unsigned keys[kAtOnce][2][2];
    load_keys<Value, Shape::E>(keys, slab, 0, load);
#pragma unroll
    for (int i = 0; i < kAtOnce * Shape::kQueryParts; ++i) {
      const int at = i / Shape::kQueryParts, part = i % Shape::kQueryParts, step = load * kAtOnce + at;
      unsigned a[4];
      load_queries<Number, Shape::E>(a, queries + part * Shape::kQueryBytes, 0, step);
      for (int n = 0; n < 2; ++n) mma_16x8x16(twice[(step + part) % 2][n], a, keys[at][n], Number{});
    }
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) scores[i / 4][i % 4] = twice[0][i / 4][i % 4] + twice[1][i / 4][i % 4];
}

// sums += weights of the slab's positions × their values
template <class Shape>
__device__ __forceinline__ void add_slab(float (&sums)[Shape::E / 8][4], const float (&scores)[2][4], const std::byte* slab) {
  using Value = typename Shape::Value;
  using Number = typename Shape::Number;
  constexpr int kAtOnce = kStepsAtOnce<Value>;
  unsigned weights[4];
  weights_of<Number>(weights, scores, 0);
#pragma unroll
  for (int load = 0; load < Shape::E / 16 / kAtOnce; ++load) {
    unsigned values[2 * kAtOnce][2];
    load_values<Value, Shape::E>(values, slab, 0, load);
#pragma unroll
    for (int n = 0; n < 2 * kAtOnce; ++n) mma_16x8x16(sums[load * 2 * kAtOnce + n], weights, values[n], Number{});
  }
}

// The block: attention of the tile to a split, the first pages of which are `ids` -> each warp's sums, in its ring, and scales.
template <class Shape>
__device__ __forceinline__ void attend_slabs(const AttentionWork& work, const SplitTile& tile, const SplitRange& range, int ids,
                                             typename Shape::Shared& shared) {
  constexpr int kStages = Shape::kStages;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  SlabReader<Shape> reader(work, tile, range, ids, shared.rings[warp]);
  for (int i = 0; i < kStages; ++i) {
    reader.ask_keys(i);
    reader.ask_values(i);
  }
  wait_for_previous_kernel();
  take_rows<Shape>(work, tile, range, shared);
  __syncthreads();
  int seen_until[2];  // the positions of rows lane / 4 and lane / 4 + 8
  for (int half = 0; half < 2; ++half) seen_until[half] = work.position(tile.sequence, tile.first + lane / 4 + 8 * half);

  SoftmaxState state;
  float sums[Shape::E / 8][4] = {};
  for (int i = 0; reader.has(i); ++i) {
    copy_async_wait<2 * kStages - 1>();
    __syncwarp();
    reader.put_fresh(i, shared.fresh);
    float scores[2][4];
    score_slab<Shape>(scores, shared.queries, reader.keys(i));
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        if (reader.position(i) + 8 * n + lane % 4 * 2 + c % 2 > seen_until[c / 2]) scores[n][c] = -INFINITY;
      }
    }
    float fade[2];
    soften(scores, state, work.scale, fade);  // the lanes wait for each other: all have read their keys
    reader.ask_keys(i + kStages);
    fade_sums(sums, fade);
    copy_async_wait<2 * kStages - 1>();
    __syncwarp();
    add_slab<Shape>(sums, scores, reader.values(i));
    __syncwarp();
    reader.ask_values(i + kStages);
  }
  copy_async_wait<0>();
  __syncwarp();

  float* const out = reinterpret_cast<float*>(shared.rings[warp]);
  for_each_pair<typename Shape::Value>(sums, [&](int row, int e, float x, float y) {
    if (row < tile.rows) *reinterpret_cast<float2*>(out + sum_place(row, e, Shape::E)) = make_float2(x, y);
  });
  for (int half = 0; half < 2; ++half) {
    float sum = state.sum[half];
    sum += __shfl_xor_sync(~0u, sum, 1);
    sum += __shfl_xor_sync(~0u, sum, 2);
    if (lane % 4 == 0) shared.scales[warp][lane / 4 + 8 * half] = make_float2(state.top[half] * work.scale, sum);
  }
}

// Adds up the sums of the block's warps: a warp takes 32 channels of a row at a time, its lane i the scale of warp i.
template <class Shape>
__device__ __forceinline__ void merge_warps(const AttentionWork& work, const SplitPlan& plan, const SplitTile& tile, int split,
                                            const typename Shape::Shared& shared) {
  constexpr int kParts = Shape::E / 32;
  const int lane = threadIdx.x % 32;
  for (int unit = threadIdx.x / 32; unit < tile.rows * kParts; unit += Shape::kWarps) {
    const int row = unit / kParts, e = unit % kParts * 32 + lane;
    const float2 scale = shared.scales[lane % Shape::kWarps][row];
    float top = scale.x;
    for (int i = Shape::kWarps / 2; i > 0; i /= 2) top = fmaxf(top, __shfl_xor_sync(~0u, top, i));
    const float weight = top == -INFINITY ? 0 : exp2f(scale.x - top);  // no position in this split that the row may see
    float sum = weight * scale.y, total = 0;
    for (int i = Shape::kWarps / 2; i > 0; i /= 2) sum += __shfl_xor_sync(~0u, sum, i);
#pragma unroll
    for (int warp = 0; warp < Shape::kWarps; ++warp) {
      total += __shfl_sync(~0u, weight, warp) * reinterpret_cast<const float*>(shared.rings[warp])[sum_place(row, e, Shape::E)];
    }
    put_split_sum(work, plan, tile, split, row, e, total, make_float2(top, sum));
  }
}

// Grid: [tiles slots, G, S].
template <class Shape>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kBlocksEach) decode_kernel(AttentionWork work, SplitPlan plan) {
  PUNA_DYNAMIC_SHARED(std::byte, memory);
  auto& shared = *reinterpret_cast<typename Shape::Shared*>(memory);
  if (!work.is_fused()) wait_for_previous_kernel();
  allow_next_kernel();
  int split = blockIdx.x / plan.tiles, ids = page_of_lane(work, blockIdx.z, split * plan.pages);
  const SplitTile tile = split_tile(work, plan);
  if (tile.rows == 0 || split >= tile.splits) return wait_for_previous_kernel();  // or the next kernel would not wait for that one
  while (true) {
    const SplitRange range = range_of(work, plan, tile, split);
    attend_slabs<Shape>(work, tile, range, ids, shared);
    __syncthreads();
    merge_warps<Shape>(work, plan, tile, split, shared);
    finish_split(work, plan, tile);
    split += plan.slots;
    if (Shape::kIsWide || split >= tile.splits) return;  // plan_splits() gives a wide block one split
    ids = page_of_lane(work, blockIdx.z, split * plan.pages);
    __syncthreads();
  }
}

template <class Shape>
void launch_decode(GpuContext& gpu, const KvBatch& batch, const AttentionWork& work, const SplitPlan& plan) {
  constexpr std::size_t kBytes = sizeof(typename Shape::Shared);
  allow_shared(decode_kernel<Shape>, kBytes, "attention");
  const dim3 grid(plan.blocks(), static_cast<unsigned>(work.groups), static_cast<unsigned>(batch.count));
  launch(gpu, "attention of few rows", decode_kernel<Shape>, grid, Shape::kThreads, kBytes, true, work, plan);
}

// Some processors have less shared memory than wide blocks take.
template <class Value, int E>
void launch_decode(GpuContext& gpu, const KvBatch& batch, const AttentionWork& work, const SplitPlan& plan) {
  using Wide = DecodeShape<Value, E, 8>;
  int room = 0;
  check(cudaDeviceGetAttribute(&room, cudaDevAttrMaxSharedMemoryPerBlockOptin, gpu.index), "attention");
  const bool fits = sizeof(typename Wide::Shared) <= static_cast<std::size_t>(room);
  if (plan.is_wide && fits) return launch_decode<Wide>(gpu, batch, work, plan);
  launch_decode<DecodeShape<Value, E, 4>>(gpu, batch, work, plan);
}

}  // namespace

void attend_by_splits(GpuContext& gpu, const KvLayer& layer, const KvBatch& batch, const AttentionWork& work, RowBounds bounds) {
  const SplitPlan plan = plan_splits(gpu, batch, work, bounds);
  with_kv_values(layer.format, "attention", [&]<class Value>(Value) {
    if constexpr (!std::is_same_v<Value, float>) {
      if (layer.head_width == 64) return launch_decode<Value, 64>(gpu, batch, work, plan);
      launch_decode<Value, 128>(gpu, batch, work, plan);
    }
  });
}

}  // namespace puna::cuda
