// SPDX-License-Identifier: Apache-2.0
// How a thread reads a piece of a row of F32, F16, BF16 or F8E4M3 weights, which lie in the GPU's memory as in the file.
#pragma once

#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/weight_cells.h"
#include "tensor/format.h"

namespace puna::cuda {

inline constexpr int kGroupValues = 8;  // values that a thread decodes at a time

__host__ __device__ constexpr int float_bytes(Format format) {  // of one value; 0: quantized
  return format == Format::kF32 ? 4 : format == Format::kF8E4M3 ? 1 : is_quantized(format) ? 0 : 2;
}

// Loads that leave the caches to what is read again: a weight is read once in a product.
template <typename T>
__device__ __forceinline__ T load_once(const std::byte* from) {
  return __ldcs(reinterpret_cast<const T*>(from));
}

// A thread's part of a row, in registers between load() and its use: kValues neighbours, kGroupValues of which decode() makes F32.
template <Format F>
struct WeightPiece {
  static constexpr int kValues = F == Format::kF8E4M3 ? 16 : 8;
  static constexpr int kGroups = kValues / kGroupValues;
  uint4 words[F == Format::kF32 ? 2 : 1];

  __device__ __forceinline__ void load(const std::byte* row, int piece) {
    if constexpr (F == Format::kF32) {  // the second half is in the cache line that the first one brought
      const uint4* from = reinterpret_cast<const uint4*>(row) + 2 * static_cast<std::int64_t>(piece);
      words[0] = __ldg(from);
      words[1] = __ldg(from + 1);
    } else {
      words[0] = load_once<uint4>(row + static_cast<std::int64_t>(piece) * 16);
    }
  }

  __device__ __forceinline__ void decode(int group, float (&w)[kGroupValues]) const {
#pragma unroll
    for (int i = 0; i < kGroupValues / 2; ++i) {
      if constexpr (F == Format::kF32) {
        w[2 * i] = __uint_as_float(word_of(words[i / 2], 2 * i % 4));
        w[2 * i + 1] = __uint_as_float(word_of(words[i / 2], 2 * i % 4 + 1));
      } else if constexpr (F == Format::kBF16) {
        w[2 * i] = __uint_as_float(word_of(words[0], i) << 16);
        w[2 * i + 1] = __uint_as_float(word_of(words[0], i) & 0xffff0000u);
      } else {
        float2 pair;
        if constexpr (F == Format::kF16) {
          pair = f32_pair(word_of(words[0], i));
        } else {
          const auto bits = static_cast<__nv_fp8x2_storage_t>(word_of(words[0], 2 * group + i / 2) >> (i % 2 * 16));
          pair = __half22float2(__half2(__nv_cvt_fp8x2_to_halfraw2(bits, __NV_E4M3)));
        }
        w[2 * i] = pair.x;
        w[2 * i + 1] = pair.y;
      }
    }
  }
};

// Whether rows of `width` values are whole pieces at aligned addresses; other rows are read value by value.
template <Format F>
__host__ __device__ constexpr bool has_whole_pieces(std::int64_t width) {
  return width % WeightPiece<F>::kValues == 0;
}

// Value k of a row of floats.
template <Format F>
__device__ __forceinline__ float float_value(const std::byte* row, std::int64_t k) {
  static_assert(!is_quantized(F));
  if constexpr (F == Format::kF32) {
    return reinterpret_cast<const float*>(row)[k];
  } else if constexpr (F == Format::kF16) {
    return f32_of_half(reinterpret_cast<const unsigned short*>(row)[k]);
  } else if constexpr (F == Format::kBF16) {
    return __uint_as_float(static_cast<unsigned>(reinterpret_cast<const unsigned short*>(row)[k]) << 16);
  } else {
    const auto bits = reinterpret_cast<const __nv_fp8_storage_t*>(row)[k];
    return __half2float(__half(__nv_cvt_fp8_to_halfraw(bits, __NV_E4M3)));
  }
}

// Values 8 group to 8 group + 7 of a row that has whole pieces, exactly: bit for bit what info(format).decode gives.
template <Format F>
__device__ __forceinline__ void decode_group(const std::byte* row, std::int64_t group, float (&values)[kGroupValues]) {
  WeightPiece<F> piece;
  piece.load(row, static_cast<int>(group / WeightPiece<F>::kGroups));
  piece.decode(static_cast<int>(group % WeightPiece<F>::kGroups), values);
}

}  // namespace puna::cuda
