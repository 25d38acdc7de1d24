// SPDX-License-Identifier: Apache-2.0
// X as tensor cores multiply it with quantized weights: a number counts as 24 bits of fixed point below the largest one of the 256
// that meet a cell, in three digits d of 8 bits: x = s (65536 d0 + 256 d1 + d2), rounded once.
#pragma once

#include "kernels/cuda/gemv_result.h"
#include "kernels/cuda/gemv_work.h"
#include "kernels/cuda/reduce.h"
#include "kernels/cuda/weight_cells.h"

namespace puna::cuda {

inline constexpr int kDigits = 3;

// Where the digits of T rows of X lie in shared memory, their scales s, and what minimums of weights are multiplied with: sums
// of 32. In bytes.
template <Format F, int T>
struct SharedDigits {
  static constexpr int kColumns = kDigits * T;
  int cells;                            // of a tile
  int digits = 0, scales, sums, bytes;  // [pieces / 2, columns, 4] of 16 bytes; [cells, T]; [T, pieces]

  __host__ __device__ explicit SharedDigits(std::int64_t width) : cells(static_cast<int>(cells_of(width))) {
    scales = digits + cells * kCellPieces / 2 * kColumns * 64;
    sums = scales + cells * T * 4;
    bytes = sums + (piece_layout(F).has_minimum ? T * cells * kCellPieces * 4 : 0);
  }
};

// Four numbers of X as digits: word p has digit p of each. `to_whole`: what makes them whole numbers below 2^23 - 2^16.
__device__ __forceinline__ void to_digits(const float4& x, float to_whole, unsigned (&digits)[kDigits]) {
  constexpr int kBias = 0x808080;  // makes every digit a byte from 0 to 255
  const auto biased = [&](float v) { return static_cast<unsigned>(__float2int_rn(v * to_whole) + kBias); };
  const unsigned a = biased(x.x), b = biased(x.y), c = biased(x.z), d = biased(x.w);
  const unsigned ab = __byte_perm(a, b, 0x5140), cd = __byte_perm(c, d, 0x5140);  // last bytes, then middle ones
  constexpr unsigned kSigns = 0x80808080u;
  digits[2] = __byte_perm(ab, cd, 0x5410) ^ kSigns;
  digits[1] = __byte_perm(ab, cd, 0x7632) ^ kSigns;
  digits[0] = __byte_perm(__byte_perm(a, b, 0x0062), __byte_perm(c, d, 0x0062), 0x5410) ^ kSigns;
}

// What numbers, the largest of which has these bits, are multiplied by, and what undoes it: NaN where one is not finite.
struct WholeScale {
  float to_whole, back;
};
__device__ __forceinline__ WholeScale whole_scale(unsigned largest) {
  constexpr unsigned kSlack = 0x20000;  // a 64th: numbers up to 2 - 1 / 64 times their power of two stay below 2^23 - 2^16
  constexpr int kBits = 149, kLeast = 23;
  const int exponent = max(static_cast<int>((largest + kSlack) >> 23), kLeast);
  if (exponent >= 255) return {0.0f, __uint_as_float(0x7fc00000u)};
  return {__uint_as_float(static_cast<unsigned>(kBits + 127 - exponent) << 23),
          __uint_as_float(static_cast<unsigned>(127 + exponent - kBits) << 23)};
}

// Four numbers of row t of X, the quad-th, into their places.
template <Format F, int T>
__device__ __forceinline__ void store_digits(const SharedDigits<F, T>& shared, std::byte* memory, int t, int quad, const float4& x,
                                             float to_whole) {
  unsigned digits[kDigits];
  to_digits(x, to_whole, digits);
  const int piece = quad / 8, lane_t = quad % 4, w = quad / 4 % 2;
  std::byte* const to =
      memory + shared.digits + (piece / 2 * shared.kColumns + kDigits * t) * 64 + lane_t * 16 + piece % 2 * 8 + w * 4;
#pragma unroll
  for (int p = 0; p < kDigits; ++p) *reinterpret_cast<unsigned*>(to + p * 64) = digits[p];
  if constexpr (piece_layout(F).has_minimum) {
    float sum = __fadd_rn(__fadd_rn(x.x, x.y), __fadd_rn(x.z, x.w));
#pragma unroll
    for (int lanes = 1; lanes < 8; lanes *= 2) sum = __fadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, lanes));
    if (quad % 8 == 0) reinterpret_cast<float*>(memory + shared.sums)[t * shared.cells * kCellPieces + piece] = sum;
  }
}

// x [rows, K], times the norm's weight, to shared memory, digit by digit; zeros for the rows up to T and the columns up to whole
// cells. squares [T, warps]: of what x was. A warp takes a cell's columns, two quads a lane.
template <Format F, int T, bool kInQuads>
struct DigitLoader {
  static constexpr int kAtOnce = 2;  // cells that a warp asks for before it uses the first
  static constexpr int kCellQuads = kCellValues / kQuad, kOfLane = kCellQuads / 32;
  using Quads = float4[kAtOnce][kOfLane];
  const GemvWork& work;
  int lane, warp;
  Quads norm;  // of the cells that come next

  // Weights are read before the kernel before has ended.
  __device__ __forceinline__ explicit DigitLoader(const GemvWork& of)
      : work(of), lane(static_cast<int>(threadIdx.x) % 32), warp(static_cast<int>(threadIdx.x) / 32) {
    load_norm(warp);
  }

  __device__ __forceinline__ void run(const SharedDigits<F, T>& shared, std::byte* memory, float (&squares)[T][kGemvWarps]) {
    float square[T] = {};
    for (int first = warp; first < shared.cells; first += kAtOnce * kGemvWarps) {
#pragma unroll
      for (int t = 0; t < T; ++t) {
        Quads values;
        load(values, work.x + t * work.width, t < work.rows, first);
        put(values, shared, memory, first, t, square[t]);
      }
      load_norm(first + kAtOnce * kGemvWarps);
    }
#pragma unroll
    for (int t = 0; t < T; ++t) {
      const float sum = warp_reduce(square[t], Sum());
      if (lane == 0) squares[t][warp] = sum;
    }
  }

 private:
  __device__ __forceinline__ int quad_of(int first, int i, int j) const {
    return (first + i * kGemvWarps) * kCellQuads + j * 32 + lane;
  }
  __device__ __forceinline__ void load(Quads& values, const float* from, bool known, int first) const {
#pragma unroll
    for (int i = 0; i < kAtOnce * kOfLane; ++i) {
      const int quad = quad_of(first, i / kOfLane, i % kOfLane);
      values[i / kOfLane][i % kOfLane] =
          known && quad < work.width / kQuad ? load_quad<kInQuads>(from + kQuad * quad) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    }
  }
  __device__ __forceinline__ void load_norm(int first) {
    if (work.norm_weight != nullptr) load(norm, work.norm_weight, true, first);
  }
  __device__ __forceinline__ void put(Quads& values, const SharedDigits<F, T>& shared, std::byte* memory, int first, int t,
                                      float& square) const {
    float* const scales = reinterpret_cast<float*>(memory + shared.scales);
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int cell = first + i * kGemvWarps;
      if (cell >= shared.cells) break;
      unsigned largest = 0;
#pragma unroll
      for (int j = 0; j < kOfLane; ++j) {
        float4& v = values[i][j];
        if (work.norm_weight != nullptr) {
          const float4& w = norm[i][j];
          square = fmaf(v.x, v.x, fmaf(v.y, v.y, fmaf(v.z, v.z, fmaf(v.w, v.w, square))));
          v = make_float4(v.x * w.x, v.y * w.y, v.z * w.z, v.w * w.w);
        }
        const auto magnitude = [](float value) { return __float_as_uint(value) & 0x7fffffffu; };  // NaN is beyond infinity
        largest = max(largest, max(max(magnitude(v.x), magnitude(v.y)), max(magnitude(v.z), magnitude(v.w))));
      }
      const WholeScale scale = whole_scale(__reduce_max_sync(0xffffffffu, largest));
      if (lane == 0) scales[cell * T + t] = scale.back;
#pragma unroll
      for (int j = 0; j < kOfLane; ++j) {
        store_digits(shared, memory, t, cell * kCellQuads + j * 32 + lane, values[i][j], scale.to_whole);
      }
    }
  }
};

}  // namespace puna::cuda
