// SPDX-License-Identifier: Apache-2.0
// How a row of a weight matrix lies in the GPU's memory, and how a thread reads a piece of it.
//
// F32, F16, BF16 and F8E4M3 rows lie as in the file. A quantized row of P = K / 32 pieces, piece p being values 32 p to 32 p + 31,
// is laid out as runs, each padded to 16 bytes, so that neighbouring threads read neighbouring bytes of every run:
//   low    [planes, P] of 16 bytes: the nibbles of a piece, or (Q8_0, two planes) the signed bytes of half a piece
//   high   [P] of 4 or 8 bytes: the fifth bits, or the fifth and sixth, of a piece
//   scale  [P] of 2 or 4 bytes: d, or d and m, in F16; of K formats the whole numbers s and m, or the two scales of Q6_K, in 8 bits
//   super  [P / 8] of 2 or 4 bytes, K formats only: d, or d and dmin, in F16
// Nibble of value v of the eight in a 32-bit word: bit 16 (v % 2) + 4 (v / 2). High bits, B for each value, of word w of a piece:
// in 32-bit word w B / 4 from bit 16 (v % 2) + 4 (v / 2) + B w % 4.
#pragma once

#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "tensor/format.h"

namespace puna::cuda {

inline constexpr int kPieceValues = 32;   // of a quantized row
inline constexpr int kSuperPieces = 8;    // pieces that share d (and dmin) in the K formats
inline constexpr int kGroupValues = 8;    // values that a thread decodes at a time
inline constexpr int kRunAlignment = 16;  // bytes

// Bytes of one piece (of eight, `super`) in each run, and what decoding needs to know. value = scale (q - center) + minimum.
struct PieceLayout {
  int planes, high, scale, super;
  int center;
  bool has_minimum;
};

__host__ __device__ constexpr PieceLayout piece_layout(Format format) {
  switch (format) {
    case Format::kQ8_0:
      return {2, 0, 2, 0, 0, false};
    case Format::kQ4_0:
      return {1, 0, 2, 0, 8, false};
    case Format::kQ4_1:
      return {1, 0, 4, 0, 0, true};
    case Format::kQ5_0:
      return {1, 4, 2, 0, 16, false};
    case Format::kQ5_1:
      return {1, 4, 4, 0, 0, true};
    case Format::kQ4_K:
      return {1, 0, 2, 4, 0, true};
    case Format::kQ5_K:
      return {1, 4, 2, 4, 0, true};
    case Format::kQ6_K:
      return {1, 8, 2, 2, 32, false};
    default:
      return {0, 0, 0, 0, 0, false};
  }
}
__host__ __device__ constexpr bool is_quantized(Format format) { return piece_layout(format).planes > 0; }
__host__ __device__ constexpr int float_bytes(Format format) {  // of one value; 0: quantized
  return format == Format::kF32 ? 4 : format == Format::kF8E4M3 ? 1 : is_quantized(format) ? 0 : 2;
}

// Offsets of the runs within a row, in bytes; low is at 0.
struct RowLayout {
  int high, scale, super;
  std::int64_t bytes;
};
__host__ __device__ constexpr int padded_run(int bytes) { return (bytes + kRunAlignment - 1) / kRunAlignment * kRunAlignment; }
__host__ __device__ constexpr RowLayout row_layout(Format format, std::int64_t width) {
  if (!is_quantized(format)) return {0, 0, 0, width * float_bytes(format)};
  const PieceLayout piece = piece_layout(format);
  const int pieces = static_cast<int>(width / kPieceValues);
  RowLayout row{};
  row.high = pieces * piece.planes * 16;
  row.scale = row.high + padded_run(pieces * piece.high);
  row.super = row.scale + padded_run(pieces * piece.scale);
  row.bytes = row.super + padded_run((pieces + kSuperPieces - 1) / kSuperPieces * piece.super);
  return row;
}

__device__ __forceinline__ float2 f32_pair(unsigned halves) { return __half22float2(*reinterpret_cast<const __half2*>(&halves)); }
__device__ __forceinline__ float f32_of_half(unsigned bits) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
}

// Loads that leave the caches to what is read again: a weight is read once in a product.
template <typename T>
__device__ __forceinline__ T load_once(const std::byte* from) {
  return __ldcs(reinterpret_cast<const T*>(from));
}

// Word i of four, which stay in registers whether i is known when this is compiled or not.
__device__ __forceinline__ unsigned word_of(const uint4& words, int i) {
  const unsigned first = i % 2 == 0 ? words.x : words.y, second = i % 2 == 0 ? words.z : words.w;
  return i / 2 == 0 ? first : second;
}

// A thread's part of a row, in registers between load() and its use: kValues neighbours, kGroupValues of which decode() makes F32.
template <Format F>
struct FloatPiece {
  static constexpr int kValues = F == Format::kF8E4M3 ? 16 : 8;
  static constexpr int kGroups = kValues / kGroupValues;
  static constexpr int kScales = 0;  // F8's scales belong to rows
  static constexpr bool kHasOffset = false, kScalesPairs = false;
  uint4 words[F == Format::kF32 ? 2 : 1];

  __device__ __forceinline__ void load(const std::byte* row, std::int64_t /*width*/, int piece) {
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

// A run's element of so many bytes.
template <int Bytes>
struct RunWord {};
template <>
struct RunWord<2> {
  using Type = unsigned short;
};
template <>
struct RunWord<4> {
  using Type = unsigned;
};
template <>
struct RunWord<8> {
  using Type = uint2;
};

// decode() gives q in units of 1 / kUnit; where kScalesPairs, of 16 / kUnit in the odd pairs (values 2, 3, 6, 7), whose factors x
// are scaled by 1 / 16 instead: both are exact. The unit comes from the decoding itself: the bits of a whole number below 1024,
// taken for an F16, are that number times 2^-24 (F16's subnormals), so masks do what otherwise takes a conversion of integers.
template <Format F>
struct QuantizedPiece {
  static constexpr PieceLayout kLayout = piece_layout(F);
  static constexpr int kValues = kPieceValues;
  static constexpr int kGroups = kValues / kGroupValues;
  static constexpr int kScales = F == Format::kQ6_K ? 2 : 1;
  static constexpr bool kScalesPairs = F != Format::kQ8_0;
  static constexpr bool kHasOffset = kLayout.center != 0 || kLayout.has_minimum;
  static constexpr float kUnit = kScalesPairs ? 0x1p24f : 1.0f;
  static constexpr int kHighBits = kLayout.high / 4;

  uint4 low[kLayout.planes];
  unsigned high[kHighBits == 0 ? 1 : kHighBits];
  unsigned scales, super;

  __device__ __forceinline__ void load(const std::byte* row, std::int64_t width, int piece) {
    const RowLayout runs = row_layout(F, width);
    const int pieces = static_cast<int>(width / kPieceValues), at = piece;
#pragma unroll
    for (int plane = 0; plane < kLayout.planes; ++plane) low[plane] = load_once<uint4>(row + (plane * pieces + at) * 16);
    if constexpr (kHighBits == 1) high[0] = load_once<unsigned>(row + runs.high + at * 4);
    if constexpr (kHighBits == 2) {
      const uint2 words = load_once<uint2>(row + runs.high + at * 8);
      high[0] = words.x;
      high[1] = words.y;
    }
    scales = load_once<typename RunWord<kLayout.scale>::Type>(row + runs.scale + at * kLayout.scale);
    if constexpr (kLayout.super > 0) {
      super = load_once<typename RunWord<kLayout.super>::Type>(row + runs.super + at / kSuperPieces * kLayout.super);
    }
  }

  __device__ __forceinline__ void decode(int group, float (&w)[kGroupValues]) const {
    if constexpr (F == Format::kQ8_0) {
      signed_bytes(group < 2 ? word_of(low[0], 2 * group) : word_of(low[1], 2 * group - 4), w);
      signed_bytes(group < 2 ? word_of(low[0], 2 * group + 1) : word_of(low[1], 2 * group - 3), w + 4);
    } else {
      const unsigned nibbles = word_of(low[0], group);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const unsigned word = i < 2 ? nibbles : nibbles >> 8;
        unsigned pair = word & (i % 2 == 0 ? 0x000f000fu : 0x00f000f0u);
        if constexpr (kHighBits > 0) {
          constexpr unsigned kMask = (1u << kHighBits) - 1u;
          const unsigned bits = group * kHighBits < 4 ? high[0] : high[kHighBits - 1];
          const int at = group * kHighBits % 4;
          const unsigned shifted = i < 2 ? bits << (4 - at) : bits >> (4 + at);
          pair |= shifted & (i % 2 == 0 ? kMask * 0x00100010u : kMask * 0x01000100u);
        }
        const float2 values = f32_pair(pair);
        w[2 * i] = values.x;
        w[2 * i + 1] = values.y;
      }
    }
  }

  // Of the piece, or of its half `index` where kScales is 2.
  __device__ __forceinline__ float scale(int index) const {
    if constexpr (F == Format::kQ6_K) {
      return f32_of_half(super) * static_cast<float>(static_cast<signed char>(scales >> (8 * index)));
    } else if constexpr (kLayout.super > 0) {
      return f32_of_half(super) * static_cast<float>(scales & 0xffu);
    } else {
      return f32_of_half(scales);
    }
  }
  __device__ __forceinline__ float minimum() const {
    if constexpr (!kLayout.has_minimum) {
      return 0.0f;
    } else if constexpr (kLayout.super > 0) {
      return -(f32_of_half(super >> 16) * static_cast<float>(scales >> 8));
    } else {
      return f32_of_half(scales >> 16);
    }
  }

 private:
  // The byte q + 128 as the last of the F32 2^23 + 128 + q.
  static __device__ __forceinline__ void signed_bytes(unsigned word, float* w) {
    const unsigned biased = word ^ 0x80808080u;
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) w[i] = __uint_as_float(__byte_perm(biased, 0x4b000000u, 0x7440u | i)) - 8388736.0f;
  }
};

template <Format F, bool kQuantized = is_quantized(F)>
struct PieceOf {
  using Type = FloatPiece<F>;
};
template <Format F>
struct PieceOf<F, true> {
  using Type = QuantizedPiece<F>;
};
template <Format F>
using WeightPiece = typename PieceOf<F>::Type;

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
__device__ __forceinline__ void decode_group(const std::byte* row, std::int64_t width, std::int64_t group,
                                             float (&values)[kGroupValues]) {
  using Piece = WeightPiece<F>;
  Piece piece;
  piece.load(row, width, static_cast<int>(group / Piece::kGroups));
  const int within = static_cast<int>(group % Piece::kGroups);
  piece.decode(within, values);
  if constexpr (is_quantized(F)) {
    const float scale = piece.scale(within * Piece::kScales / Piece::kGroups), minimum = piece.minimum();
#pragma unroll
    for (int i = 0; i < kGroupValues; ++i) {
      const float unit = Piece::kScalesPairs && i / 2 % 2 == 1 ? Piece::kUnit / 16.0f : Piece::kUnit;
      const float product = __fmul_rn(scale, values[i] * unit - static_cast<float>(Piece::kLayout.center));
      values[i] = Piece::kLayout.has_minimum ? __fadd_rn(product, minimum) : product;
    }
  }
}

}  // namespace puna::cuda
