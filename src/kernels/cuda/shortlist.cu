// SPDX-License-Identifier: Apache-2.0
// Shortlists on a GPU. A row is read once, in tiles that a block holds in registers: it finds its tile's largest numbers bit by
// bit, by counting, and keeps them in the order of their ids. Blocks with the kept ones of 32 tiles do the same again, until there
// is one. Rows of which a token is drawn are read a second time, by a block each, in F64.
#include "kernels/cuda/context.h"
#include "kernels/cuda/cuda_kernels.h"

#include "base/error.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/float_order.h"
#include "kernels/cuda/mma.h"
#include "kernels/cuda/reduce.h"

namespace puna::cuda {
namespace {

constexpr int kTileThreads = 256, kTileEach = 16, kTile = kTileThreads * kTileEach;  // numbers of a tile, and in each thread
constexpr int kJoinThreads = 1024, kJoinEach = 8, kJoined = kJoinThreads * kJoinEach / kShortlist;  // tiles that a block joins
constexpr int kDrawThreads = 1024;
constexpr std::int64_t kMostGridRows = 65535;  // of blockIdx.y
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr float kNothing = -INFINITY;

struct Entry {
  unsigned ordered;  // 0: none
  std::int32_t id;
};
// Of a tile or of several: the largest number, and the sum of exp((x - peak) inverse_temperature) over those that were not kept.
struct Others {
  double rest;
  float peak;
};

__device__ __forceinline__ float weight(float value, float peak, float inverse_temperature) {
  return expf((value - peak) * inverse_temperature);
}

// The largest threshold that kShortlist of a block's numbers reach, or one below it that no more do; 0 where there are fewer.
template <int Threads, int N>
__device__ unsigned threshold_of(const unsigned (&ordered)[N]) {
  constexpr int kWarps = Threads / 32;
  __shared__ int of_warp[2][kWarps];  // in turns, so that one barrier is enough
  unsigned threshold = 0;
  for (int bit = 31; bit >= 0; --bit) {
    const unsigned candidate = threshold | 1u << bit;
    int count = 0;
#pragma unroll
    for (int n = 0; n < N; ++n) count += ordered[n] >= candidate ? 1 : 0;
    count = __reduce_add_sync(kAllLanes, count);
    if (threadIdx.x % 32 == 0) of_warp[bit & 1][threadIdx.x / 32] = count;
    __syncthreads();
    count = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) count += of_warp[bit & 1][w];
    if (count >= kShortlist) threshold = candidate;
    if (count == kShortlist) break;
  }
  return threshold;
}

// The sum of `value` over the threads before this one, and over all. Two 16-bit counts may share a value.
template <int Threads>
__device__ int sum_before(int value, int& all) {
  constexpr int kWarps = Threads / 32;
  __shared__ int of_warp[kWarps];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  int upto = value;
#pragma unroll
  for (int lanes = 1; lanes < 32; lanes *= 2) {
    const int other = __shfl_up_sync(kAllLanes, upto, lanes);
    if (lane >= lanes) upto += other;
  }
  if (lane == 31) of_warp[warp] = upto;
  __syncthreads();
  int before = upto - value;
  all = 0;
  for (int w = 0; w < kWarps; ++w) {
    if (w < warp) before += of_warp[w];
    all += of_warp[w];
  }
  return before;
}

// Of a block's numbers, N neighbours in each thread, keep(slot, n) for the kShortlist largest, of equal ones the first, in their
// order. Returns how many there are, and what is known of the others, whose `rest` is this block's in all threads.
template <int Threads, int N, typename Keep>
__device__ int keep_largest(const unsigned (&ordered)[N], float inverse_temperature, Others& others, const Keep& keep) {
  unsigned largest = 0;
#pragma unroll
  for (int n = 0; n < N; ++n) largest = max(largest, ordered[n]);
  largest = block_reduce(largest, Greatest());
  others.peak = largest == 0 ? kNothing : value_of(largest);

  const unsigned threshold = threshold_of<Threads>(ordered);
  int counts = 0;  // of numbers above the threshold, and of those that equal it times 2^16
#pragma unroll
  for (int n = 0; n < N; ++n) counts += ordered[n] > threshold ? 1 : ordered[n] == threshold && threshold > 0 ? 1 << 16 : 0;
  int all;
  const int before = sum_before<Threads>(counts, all);
  const int most_equal = kShortlist - (all & 0xffff);
  int equal = before >> 16, slot = (before & 0xffff) + min(equal, most_equal);
  float dropped = 0;
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const bool is_equal = threshold > 0 && ordered[n] == threshold;
    if (ordered[n] > threshold || (is_equal && equal < most_equal)) {
      keep(slot++, n);
    } else if (ordered[n] > 0) {
      dropped += weight(value_of(ordered[n]), others.peak, inverse_temperature);
    }
    equal += is_equal ? 1 : 0;
  }
  others.rest = block_reduce(static_cast<double>(dropped), Sum());
  return (all & 0xffff) + min(all >> 16, most_equal);
}

// Tile blockIdx.x of row blockIdx.y -> entries [rows, tiles, kShortlist], others [rows, tiles]
template <int N>
__global__ void __launch_bounds__(kTileThreads)
    shortlist_tiles(LogitColumns columns, const RowDraw* draws, Entry* entries, Others* others) {
  wait_for_previous_kernel();
  allow_next_kernel();
  const float* const row = columns.logits + blockIdx.y * columns.stride;
  const std::int64_t first = blockIdx.x * static_cast<std::int64_t>(kTile) + threadIdx.x * kTileEach;
  unsigned ordered[kTileEach];
#pragma unroll
  for (int i = 0; i < kTileEach; i += N) {
    Pack<float, N> values;
    if (first + i + N <= columns.width) {
      values = load<N>(row + first + i);
    } else {
#pragma unroll
      for (int n = 0; n < N; ++n) values.v[n] = first + i + n < columns.width ? row[first + i + n] : kNothing;
    }
#pragma unroll
    for (int n = 0; n < N; ++n) ordered[i + n] = values.v[n] > kNothing ? ordered_bits(values.v[n]) : 0;
  }
  const std::int64_t tile = blockIdx.y * static_cast<std::int64_t>(gridDim.x) + blockIdx.x;
  Entry* const kept = entries + tile * kShortlist;
  Others own;
  const int count = keep_largest<kTileThreads>(ordered, draws[blockIdx.y].inverse_temperature, own, [&](int slot, int n) {
    kept[slot] = {ordered[n], static_cast<std::int32_t>(first + n)};
  });
  for (int slot = count + static_cast<int>(threadIdx.x); slot < kShortlist; slot += kTileThreads) kept[slot] = {0, 0};
  if (threadIdx.x == 0) others[tile] = own;
}

// Tiles [kJoined blockIdx.x, + kJoined) of row blockIdx.y become one; the row's shortlist where that is all of them.
__global__ void __launch_bounds__(kJoinThreads)
    join_tiles(const Entry* entries, const Others* others, int tiles, LogitColumns columns, const RowDraw* draws, Entry* joined,
               Others* joined_others, Shortlist* found) {
  wait_for_previous_kernel();
  allow_next_kernel();
  const float inverse_temperature = draws[blockIdx.y].inverse_temperature;
  const int first_tile = static_cast<int>(blockIdx.x) * kJoined, own_tiles = min(kJoined, tiles - first_tile);
  const std::int64_t before = blockIdx.y * static_cast<std::int64_t>(tiles) + first_tile;
  const int first = static_cast<int>(threadIdx.x) * kJoinEach;
  unsigned ordered[kJoinEach];
  std::int32_t ids[kJoinEach];
#pragma unroll
  for (int n = 0; n < kJoinEach; ++n) {
    const Entry entry = first < own_tiles * kShortlist ? entries[before * kShortlist + first + n] : Entry{0, 0};
    ordered[n] = entry.ordered, ids[n] = entry.id;
  }
  const std::int64_t place = blockIdx.y * static_cast<std::int64_t>(gridDim.x) + blockIdx.x;
  const bool last = gridDim.x == 1;
  Entry* const kept = joined + place * kShortlist;
  Shortlist& list = found[blockIdx.y];
  Others own;
  const int count = keep_largest<kJoinThreads>(ordered, inverse_temperature, own, [&](int slot, int n) {
    if (last) {
      list.ids[slot] = ids[n], list.logits[slot] = value_of(ordered[n]);
    } else {
      kept[slot] = {ordered[n], ids[n]};
    }
  });
  double below = 0;  // what the tiles had not kept
  if (static_cast<int>(threadIdx.x) < own_tiles) {
    const Others& tile = others[before + threadIdx.x];
    if (tile.rest > 0) below = tile.rest * static_cast<double>(weight(tile.peak, own.peak, inverse_temperature));
  }
  own.rest += block_reduce(below, Sum());
  if (!last) {
    for (int slot = count + static_cast<int>(threadIdx.x); slot < kShortlist; slot += kJoinThreads) kept[slot] = {0, 0};
    if (threadIdx.x == 0) joined_others[place] = own;
  } else if (threadIdx.x == 0) {
    list.rest = own.rest, list.margin = 0, list.count = count, list.drawn = -1;
    list.width = static_cast<std::int32_t>(columns.width);
  }
}

// A block for each row. The row is cut into 32 pieces, whose sums tell the one in which the draw falls; that one into 32 again,
// until it is one number.
__global__ void __launch_bounds__(kDrawThreads) draw_rows(LogitColumns columns, const RowDraw* draws, Shortlist* found) {
  constexpr int kPieces = kDrawThreads / 32;
  __shared__ double sums[kPieces];
  wait_for_previous_kernel();
  allow_next_kernel();
  const RowDraw draw = draws[blockIdx.x];
  Shortlist& list = found[blockIdx.x];
  if (draw.uniform < 0 || list.count == 0) return;
  const float* const row = columns.logits + blockIdx.x * columns.stride;
  const float mine = static_cast<int>(threadIdx.x) < list.count ? list.logits[threadIdx.x] : kNothing;
  const float peak = block_reduce(mine, Largest());
  const auto weight_of = [&](std::int64_t v) {
    const float scaled = (row[v] - peak) * draw.inverse_temperature;
    return scaled <= 0 ? exp(static_cast<double>(scaled)) : 0.0;
  };
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  std::int64_t begin = 0, end = columns.width;
  double mass = 0, before = 0, target = 0, own = 0;
  do {
    const std::int64_t piece = (end - begin + kPieces - 1) / kPieces;
    const std::int64_t to = min(begin + (warp + 1) * piece, end);
    double sum = 0;
    for (std::int64_t v = begin + warp * piece + lane; v < to; v += 32) sum += weight_of(v);
    sum = warp_reduce(sum, Sum());
    __syncthreads();  // the sums before have been read by all
    if (lane == 0) sums[warp] = sum;
    __syncthreads();
    if (end - begin == columns.width) {
      for (int i = 0; i < kPieces; ++i) mass += sums[i];
      target = draw.uniform * mass;
    }
    int chosen = 0;
    for (; begin + piece < end && !(target < before + sums[chosen]); ++chosen, begin += piece) before += sums[chosen];
    own = sums[chosen];
    end = min(begin + piece, end);
  } while (end - begin > 1);
  if (threadIdx.x > 0) return;
  list.drawn = static_cast<std::int32_t>(begin);
  list.margin = fmin(target - before, before + own - target) / mass;
}

// Of as many rows as the workspace has room for.
void shortlist(GpuContext& gpu, const LogitColumns& columns, const RowDraw* draws, Shortlist* found) {
  const auto rows = static_cast<unsigned>(columns.rows);
  unsigned tiles = std::max(1u, blocks_for(columns.width, kTile));
  const bool in_packs = columns.stride % 4 == 0 && holds_packs(columns.logits);
  auto* others = static_cast<Others*>(gpu.workspace);  // [rows, tiles]
  auto* entries = reinterpret_cast<Entry*>(others + rows * std::size_t{tiles});
  launch(gpu, "shortlist", in_packs ? shortlist_tiles<4> : shortlist_tiles<1>, dim3(tiles, rows), kTileThreads, 0, true, columns,
         draws, entries, others);
  for (bool last = false; !last;) {
    const unsigned joined = blocks_for(tiles, kJoined);
    last = joined == 1;
    auto* const joined_others = reinterpret_cast<Others*>(entries + rows * std::size_t{tiles} * kShortlist);
    auto* const joined_entries = reinterpret_cast<Entry*>(joined_others + rows * std::size_t{joined});
    launch(gpu, "shortlist", join_tiles, dim3(joined, rows), kJoinThreads, 0, true, entries, others, static_cast<int>(tiles),
           columns, draws, joined_entries, joined_others, found);
    tiles = joined, entries = joined_entries, others = joined_others;
  }
  launch(gpu, "shortlist", draw_rows, rows, kDrawThreads, 0, true, columns, draws, found);
}

}  // namespace

void shortlist_rows(Device& device, const LogitColumns& columns, const RowDraw* draws, Shortlist* found) {
  GpuContext& gpu = context_of(device);
  const std::int64_t tile_bytes = sizeof(Others) + kShortlist * sizeof(Entry);
  const std::int64_t row_bytes = (std::max<std::int64_t>(1, blocks_for(columns.width, kTile)) + 4) * tile_bytes * 32 / 31;
  const std::int64_t most = std::min(kMostGridRows, static_cast<std::int64_t>(gpu.workspace_bytes) / row_bytes);
  PUNA_CHECK(most > 0, "shortlist", "rows of {} numbers", columns.width);
  for (std::int64_t first = 0; first < columns.rows; first += most) {
    const LogitColumns some{columns.logits + first * columns.stride, std::min(most, columns.rows - first), columns.stride,
                            columns.width};
    shortlist(gpu, some, draws + first, found + first);
  }
}

}  // namespace puna::cuda
