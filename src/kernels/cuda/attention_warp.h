// SPDX-License-Identifier: Apache-2.0
// One warp's share of attention on tensor cores (mma.m16n8k16): scores of 16 packed rows with some keys, the online softmax, and
// the sum of values. Rows of queries, keys and values lie in shared memory, their pieces of 16 bytes swizzled so that the eight
// rows that ldmatrix reads at a time are in different banks.
//
// F8E4M3 is widened to F16 where fragments are loaded. Its order within 16 channels is another one: a lane gets four channels that
// are neighbours in a row of keys, so query channels are stored in the order of query_place(), and a lane's sums are of four
// neighbouring channels (for_each_pair()).
#pragma once

#include <cmath>

#include "kernels/cuda/attention_work.h"
#include "kernels/cuda/kv_values.h"
#include "kernels/cuda/mma.h"

namespace puna::cuda {

// What products of numbers of a format are made of.
template <class Value>
struct TileNumber {
  using Type = Value;
};
template <>
struct TileNumber<Float8> {
  using Type = __half;
};

constexpr __device__ int swizzled(int row, int piece, int pieces) {
  const int span = pieces < 8 ? pieces : 8;  // pieces of a row, or of 128 bytes of it
  return piece ^ ((row / (8 / span)) % span);
}

// Rows of E numbers of one type in shared memory.
template <class Value, int E>
struct SharedRows {
  static constexpr int kPieces = E * static_cast<int>(sizeof(Value)) / 16;
  static_assert((kPieces & (kPieces - 1)) == 0);
  static constexpr int kRowBytes = kPieces * 16;

  __device__ static int offset(int row, int piece) { return row * kRowBytes + swizzled(row, piece, kPieces) * 16; }
};

__device__ __forceinline__ unsigned bits_of(__half2 x) { return *reinterpret_cast<unsigned*>(&x); }
__device__ __forceinline__ unsigned bits_of(__nv_bfloat162 x) { return *reinterpret_cast<unsigned*>(&x); }
__device__ __forceinline__ unsigned packed(float x, float y, __half) { return bits_of(__floats2half2_rn(x, y)); }
__device__ __forceinline__ unsigned packed(float x, float y, __nv_bfloat16) { return bits_of(__floats2bfloat162_rn(x, y)); }

// Two E4M3 in the low 16 bits -> two F16.
__device__ __forceinline__ unsigned widened_pair(unsigned pair) {
  return bits_of(__half2(__nv_cvt_fp8x2_to_halfraw2(static_cast<__nv_fp8x2_storage_t>(pair), __NV_E4M3)));
}

// Where channel e of a query lies in its row.
template <class Value>
__device__ __forceinline__ int query_place(int e) {
  if constexpr (sizeof(Value) == 1) return (e & ~15) | ((e & 2) << 2) | ((e & 12) >> 1) | (e & 1);
  return e;
}

// Channels e and e + 1 of a row of queries [kParts, kRows, E], rounded; part 1 is what rounding took from part 0.
template <class Value, int E, int kRows, int kParts>
__device__ __forceinline__ void put_query(std::byte* queries, int row, int e, float x, float y) {
  using Number = typename TileNumber<Value>::Type;
  using Rows = SharedRows<Number, E>;
  const int place = query_place<Value>(e);
  std::byte* const to = queries + Rows::offset(row, place / 8) + place % 8 * sizeof(Number);
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
    *reinterpret_cast<unsigned*>(to + part * kRows * Rows::kRowBytes) = packed(x, y, Number{});
    x -= widened(rounded<Number>(x));
    y -= widened(rounded<Number>(y));
  }
}

// queries [kParts, kRows, E] <- `rows` packed rows from `first` on, and zeros for those that are missing. Called by all kWarps
// warps of a block.
template <class Value, int E, int kRows, int kParts, int kWarps>
__device__ __forceinline__ void store_queries(const AttentionWork& work, const SequenceView& sequence, int g, int first, int rows,
                                              std::byte* queries) {
#pragma unroll 4
  for (int row = threadIdx.x / 32; row < kRows; row += kWarps) {
    const float* const from = row < rows ? work.query(sequence, g, first + row) : nullptr;
#pragma unroll
    for (int e = threadIdx.x % 32 * 2; e < E; e += 64) {
      put_query<Value, E, kRows, kParts>(queries, row, e, from ? from[e] : 0, from ? from[e + 1] : 0);
    }
  }
}

// Fragment a [16, 16] of queries: rows from `row` on, channels from 16 step on. queries: SharedRows<Number, E>.
template <class Number, int E>
__device__ __forceinline__ void load_queries(unsigned (&a)[4], const std::byte* queries, int row, int step) {
  const int lane = threadIdx.x % 32;
  load_matrix_x4(a, queries + SharedRows<Number, E>::offset(row + lane % 16, 2 * step + lane / 16));
}

// 16 channels of keys are one 8 × 8 matrix of pairs in F8E4M3, two in the others; so much comes with one load.
template <class Value>
inline constexpr int kStepsAtOnce = sizeof(Value) == 1 ? 2 : 1;

// Fragments b [16, 8] of keys [key, key + 16) and 16 kStepsAtOnce channels: b[step][key / 8].
template <class Value, int E>
__device__ __forceinline__ void load_keys(unsigned (&b)[kStepsAtOnce<Value>][2][2], const std::byte* keys, int key, int load) {
  const int lane = threadIdx.x % 32;
  unsigned r[4];
  load_matrix_x4(r, keys + SharedRows<Value, E>::offset(key + lane / 16 * 8 + lane % 8, 2 * load + lane / 8 % 2));
  if constexpr (sizeof(Value) == 1) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      b[i % 2][i / 2][0] = widened_pair(r[i] & 0xffff);
      b[i % 2][i / 2][1] = widened_pair(r[i] >> 16);
    }
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) b[0][i / 2][i % 2] = r[i];
  }
}

// Fragments b [16, 8] of values of positions [key, key + 16) and 16 kStepsAtOnce channels: b[8 channels].
template <class Value, int E>
__device__ __forceinline__ void load_values(unsigned (&b)[2 * kStepsAtOnce<Value>][2], const std::byte* values, int key, int load) {
  const int lane = threadIdx.x % 32;
  unsigned r[4];
  load_matrix_x4_trans(r, values + SharedRows<Value, E>::offset(key + lane % 16, 2 * load + lane / 16));
  if constexpr (sizeof(Value) == 1) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const unsigned sorted = __byte_perm(r[i], 0, 0x3120);  // even channels of two positions, then odd ones
      b[i / 2 * 2][i % 2] = widened_pair(sorted & 0xffff);
      b[i / 2 * 2 + 1][i % 2] = widened_pair(sorted >> 16);
    }
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) b[i / 2][i % 2] = r[i];
  }
}

// Of rows lane / 4 and lane / 4 + 8: the greatest score so far, and this lane's part of the sum of exp2.
struct SoftmaxState {
  float top[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0, 0};
};

// Scores s [16, 8 kKeys] of 16 rows -> exp2((s - greatest) scale); `fade` is what sums so far must be multiplied by.
template <int kKeys>
__device__ __forceinline__ void soften(float (&s)[kKeys][4], SoftmaxState& state, float scale, float (&fade)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float top = state.top[half];
#pragma unroll
    for (int n = 0; n < kKeys; ++n) top = fmaxf(top, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
    top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
    top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
    const float base = top == -INFINITY ? 0 : top * scale;  // no key yet that this row may see
    fade[half] = exp2f(state.top[half] * scale - base);
    state.top[half] = top;
    float sum = 0;
#pragma unroll
    for (int n = 0; n < kKeys; ++n) {
#pragma unroll
      for (int i = 2 * half; i < 2 * half + 2; ++i) {
        s[n][i] = exp2f(s[n][i] * scale - base);
        sum += s[n][i];
      }
    }
    state.sum[half] = state.sum[half] * fade[half] + sum;
  }
}

template <int kChannels>
__device__ __forceinline__ void fade_sums(float (&sums)[kChannels][4], const float (&fade)[2]) {
  if (__all_sync(~0u, fade[0] == 1 && fade[1] == 1)) return;
#pragma unroll
  for (int n = 0; n < kChannels; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[n][i] *= fade[i / 2];
  }
}

// Weights of 16 positions, as fragment a of the product with values.
template <class Number, int kKeys>
__device__ __forceinline__ void weights_of(unsigned (&a)[4], const float (&s)[kKeys][4], int pair) {
#pragma unroll
  for (int i = 0; i < 4; ++i) a[i] = packed(s[2 * pair + i / 2][i % 2 * 2], s[2 * pair + i / 2][i % 2 * 2 + 1], Number{});
}

// use(row, e, x, y): what sums [16, E] this lane holds, of channels e and e + 1.
template <class Value, int kChannels, class Use>
__device__ __forceinline__ void for_each_pair(const float (&sums)[kChannels][4], Use&& use) {
  const int row = threadIdx.x % 32 / 4, c = threadIdx.x % 4;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int n = 0; n < kChannels; n += 2) {
      if constexpr (sizeof(Value) == 1) {
        use(row + 8 * half, 8 * n + 4 * c, sums[n][2 * half], sums[n + 1][2 * half]);
        use(row + 8 * half, 8 * n + 4 * c + 2, sums[n][2 * half + 1], sums[n + 1][2 * half + 1]);
      } else {
        use(row + 8 * half, 8 * n + 2 * c, sums[n][2 * half], sums[n][2 * half + 1]);
        use(row + 8 * half, 8 * n + 8 + 2 * c, sums[n + 1][2 * half], sums[n + 1][2 * half + 1]);
      }
    }
  }
}

}  // namespace puna::cuda
