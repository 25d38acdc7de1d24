// SPDX-License-Identifier: Apache-2.0
// A warp takes one head of one row: its lanes read neighbouring numbers and write them, rounded, side by side into the page. A
// block is kWarps heads of one row; the grid is [T, heads / kWarps].
#include "kernels/cuda/context.h"
#include "kernels/cuda/cuda_kernels.h"

#include "kernels/cuda/kv_values.h"
#include "kernels/cuda/mma.h"

namespace puna::cuda {
namespace {

constexpr int kWarps = 4;

// Where rows of the batch go in one layer.
struct PagePlaces {
  const std::int32_t* row_sequence;  // [T]
  const std::int32_t* row_position;  // [T]
  const std::int32_t* pages;         // [S, page_stride]
  std::int64_t page_stride;
  std::byte* keys;    // [pages, G, kPagePositions, E]
  std::byte* values;  // the same
  int kv_heads, head_width;

  // Of number 0 of head g in row t's place, counted in numbers.
  __device__ std::int64_t offset(std::int64_t t, int g) const {
    const std::int64_t position = row_position[t];
    const std::int64_t page = pages[row_sequence[t] * page_stride + position / kPagePositions];
    return ((page * kv_heads + g) * kPagePositions + position % kPagePositions) * head_width;
  }
};

PagePlaces places_of(const KvLayer& layer, const KvBatch& batch) {
  return {batch.row_sequence,
          batch.row_position,
          batch.pages,
          batch.page_stride,
          layer.keys,
          layer.values,
          static_cast<int>(layer.kv_heads),
          static_cast<int>(layer.head_width)};
}

template <class Value>
__device__ void store_head(const float* from, Value* to, int width) {
  for (int e = threadIdx.x % 32; e < width; e += 32) to[e] = rounded<Value>(from[e]);
}

// Heads 0 to G - 1 are keys, G to 2 G - 1 values.
template <class Value>
__global__ void __launch_bounds__(kWarps * 32)
    store_kernel(PagePlaces places, const float* k, const float* v, std::int64_t stride) {
  wait_for_previous_kernel();
  allow_next_kernel();
  const int unit = blockIdx.y * kWarps + threadIdx.x / 32;
  if (unit >= 2 * places.kv_heads) return;
  const std::int64_t t = blockIdx.x;
  const int g = unit % places.kv_heads;
  const bool is_key = unit < places.kv_heads;
  const float* from = (is_key ? k : v) + t * stride + static_cast<std::int64_t>(g) * places.head_width;
  Value* to = reinterpret_cast<Value*>(is_key ? places.keys : places.values) + places.offset(t, g);
  store_head(from, to, places.head_width);
}

// Turns the pairs of a head (kernels/rope.h): put(e, turned) for each of its numbers.
template <class Put>
__device__ void turn_head(const float* x, const float* table, RopePairing pairing, int width, Put&& put) {
  const int pairs = width / 2;
  for (int p = threadIdx.x % 32; p < pairs; p += 32) {
    const int first = pairing == RopePairing::kNeighbours ? 2 * p : p;
    const int second = pairing == RopePairing::kNeighbours ? 2 * p + 1 : p + pairs;
    const float2 turned = turned_pair(x[first], x[second], table[2 * p], table[2 * p + 1]);
    put(first, turned.x);
    put(second, turned.y);
  }
}

// Heads 0 to G - 1 are keys, G to 2 G - 1 values, the others queries.
template <class Value>
__global__ void __launch_bounds__(kWarps * 32) rope_store_kernel(PagePlaces places, RopeStore rows) {
  wait_for_previous_kernel();
  allow_next_kernel();
  const int unit = blockIdx.y * kWarps + threadIdx.x / 32, groups = places.kv_heads, width = places.head_width;
  if (unit >= 2 * groups + (rows.with_queries ? rows.heads : 0)) return;
  const std::int64_t t = blockIdx.x;
  float* const row = rows.qkv + t * rows.stride;
  const float* const table = rows.rope_table + t * width;
  if (unit >= 2 * groups) {
    float* const query = row + static_cast<std::int64_t>(unit - 2 * groups) * width;
    turn_head(query, table, rows.pairing, width, [&](int e, float x) { query[e] = x; });
    return;
  }
  const float* const from = row + (rows.heads + unit) * width;  // keys, then values
  const std::int64_t offset = places.offset(t, unit % groups);
  if (unit < groups) {
    Value* const to = reinterpret_cast<Value*>(places.keys) + offset;
    turn_head(from, table, rows.pairing, width, [&](int e, float x) { to[e] = rounded<Value>(x); });
  } else {
    store_head(from, reinterpret_cast<Value*>(places.values) + offset, width);
  }
}

}  // namespace

void kv_store(Device& device, const KvLayer& layer, const KvBatch& batch, const KvRows& rows) {
  if (batch.rows == 0) return;
  GpuContext& gpu = context_of(device);
  const dim3 grid(static_cast<unsigned>(batch.rows), blocks_for(2 * layer.kv_heads, kWarps));
  with_kv_values(layer.format, "kv_store", [&]<class Value>(Value) {
    launch(gpu, "kv_store", store_kernel<Value>, grid, kWarps * 32, 0, true, places_of(layer, batch), rows.k, rows.v, rows.stride);
  });
}

void rope_and_store(Device& device, const KvLayer& layer, const KvBatch& batch, const RopeStore& rows) {
  if (batch.rows == 0) return;
  GpuContext& gpu = context_of(device);
  const dim3 grid(static_cast<unsigned>(batch.rows), blocks_for(2 * layer.kv_heads + (rows.with_queries ? rows.heads : 0), kWarps));
  with_kv_values(layer.format, "rope_and_store", [&]<class Value>(Value) {
    launch(gpu, "rope_and_store", rope_store_kernel<Value>, grid, kWarps * 32, 0, true, places_of(layer, batch), rows);
  });
}

}  // namespace puna::cuda
