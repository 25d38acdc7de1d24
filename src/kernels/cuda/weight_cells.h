// SPDX-License-Identifier: Apache-2.0
// How a quantized matrix lies in the GPU's memory, and how a warp reads it for tensor cores.
//
// W [N, K] is laid out as tiles of 16 rows, one behind the other, and a tile as cells of 256 columns: what lies in memory in a row
// is what a block multiplies in a row. Rows and columns that fill up the last ones hold zeros. A cell is two halves of 128 columns,
// four pieces of 32 each. Lane 4 g + t of a warp holds of every piece j, of rows g and g + 8 (r = 0 and 1), the two quads of
// columns 4 t to 4 t + 3 and 16 more (w = 0 and 1), as mma.m16n8k32 takes them (PTX ISA 8). The parts of a cell:
//   low     [half, r, lane] of 16 bytes: word j has the nibbles of piece j, value i of quad w from bit 8 i + 4 w.
//           Q8_0: [half, r, j / 2, lane] of 16 bytes: word 2 (j % 2) + w is a quad in signed bytes
//   high    the fifth bits, [half, r, lane] of 4 bytes, from bit 8 i + 2 j + w; or the fifth and sixth, [half, r, lane] of two
//   words,
//           one for each w, from bit 8 i + 2 j
//   scales  [half, g, j] of 4 bytes, row g in the lower half, g + 8 in the upper one: d in F16; of K formats s and m, or the two
//           scales of Q6_K, in 8 bits. With d and m in F16: [half, r, g, j] of 4 bytes
//   super   K formats only, [16] of 4 bytes: d and dmin in F16; or (Q6_K) [g] of 4 bytes: d of rows g and g + 8
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "tensor/format.h"

namespace puna::cuda {

inline constexpr int kTileRows = 16, kCellValues = 256, kHalfValues = 128, kPieceValues = 32;
inline constexpr int kHalfPieces = kHalfValues / kPieceValues, kCellPieces = 2 * kHalfPieces;
inline constexpr int kQuad = 4;

// What decoding needs to know: value = scale (q - center) + minimum.
struct PieceLayout {
  int bits;        // of q; 8: signed
  int scale_bits;  // of a row's scale, or scale and minimum, of a piece
  int super_bits;  // of a row's d, or d and dmin, of a cell
  int center;
  bool has_minimum;
};

__host__ __device__ constexpr PieceLayout piece_layout(Format format) {
  switch (format) {
    case Format::kQ8_0:
      return {8, 16, 0, 0, false};
    case Format::kQ4_0:
      return {4, 16, 0, 8, false};
    case Format::kQ4_1:
      return {4, 32, 0, 0, true};
    case Format::kQ5_0:
      return {5, 16, 0, 16, false};
    case Format::kQ5_1:
      return {5, 32, 0, 0, true};
    case Format::kQ4_K:
      return {4, 16, 32, 0, true};
    case Format::kQ5_K:
      return {5, 16, 32, 0, true};
    case Format::kQ6_K:
      return {6, 16, 16, 32, false};
    default:
      return {0, 0, 0, 0, false};
  }
}
__host__ __device__ constexpr bool is_quantized(Format format) { return piece_layout(format).bits > 0; }

// Bytes: where the parts of a cell begin, and of a half's part.
struct CellLayout {
  int low, high, scales, super;  // of a half, a half, a half, the cell
  int high_at, scales_at, super_at, bytes;
};
__host__ __device__ constexpr CellLayout cell_layout(Format format) {
  constexpr int kHalf = kTileRows * kHalfValues;
  const PieceLayout piece = piece_layout(format);
  CellLayout cell{};
  cell.low = kHalf * (piece.bits == 8 ? 8 : 4) / 8;
  cell.high = piece.bits == 8 ? 0 : kHalf * (piece.bits - 4) / 8;
  cell.scales = kTileRows * kHalfPieces * piece.scale_bits / 8;
  cell.super = kTileRows * piece.super_bits / 8;
  cell.high_at = 2 * cell.low;
  cell.scales_at = cell.high_at + 2 * cell.high;
  cell.super_at = cell.scales_at + 2 * cell.scales;
  cell.bytes = cell.super_at + cell.super;
  return cell;
}

__host__ __device__ constexpr std::int64_t cells_of(std::int64_t width) { return (width + kCellValues - 1) / kCellValues; }
__host__ __device__ constexpr std::int64_t tiles_of(std::int64_t rows) { return (rows + kTileRows - 1) / kTileRows; }
__host__ __device__ constexpr std::int64_t tile_bytes(Format format, std::int64_t width) {
  return cells_of(width) * cell_layout(format).bytes;
}

__device__ __forceinline__ float2 f32_pair(unsigned halves) { return __half22float2(*reinterpret_cast<const __half2*>(&halves)); }
__device__ __forceinline__ float f32_of_half(unsigned bits) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
}
__device__ __forceinline__ unsigned word_of(const uint4& words, int i) {
  return i == 0 ? words.x : i == 1 ? words.y : i == 2 ? words.z : words.w;
}

// q - center of four values, in signed bytes.
template <int kCenter>
__device__ __forceinline__ unsigned centered(unsigned quad) {
  if constexpr (kCenter == 0) return quad;
  constexpr unsigned kSigns = 0x80808080u;
  return ((quad | kSigns) - kCenter * 0x01010101u) ^ kSigns;  // no byte borrows from the next one
}

// What one lane holds of rows g and g + 8 in a half of a cell.
template <Format F>
struct HalfCell {
  static constexpr PieceLayout kPiece = piece_layout(F);
  static constexpr CellLayout kCell = cell_layout(F);
  static constexpr bool kWholeScales = kPiece.super_bits > 0;  // of pieces, in whole numbers
  static constexpr int kPlanes = kPiece.bits == 8 ? 2 : 1;
  static constexpr int kHighWords = kPiece.bits == 8 ? 0 : kPiece.bits - 4;
  static constexpr int kScaleRows = kPiece.scale_bits == 32 ? 2 : 1;

  uint4 low[2][kPlanes];
  unsigned high[2][kHighWords == 0 ? 1 : kHighWords];
  uint4 scales[kScaleRows];

  __device__ __forceinline__ void load(const std::byte* cell, int half, int lane) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
#pragma unroll
      for (int plane = 0; plane < kPlanes; ++plane) {
        low[r][plane] = *reinterpret_cast<const uint4*>(cell + half * kCell.low + ((r * kPlanes + plane) * 32 + lane) * 16);
      }
      const std::byte* bits = cell + kCell.high_at + half * kCell.high + (r * 32 + lane) * kHighWords * 4;
      if constexpr (kHighWords == 1) high[r][0] = *reinterpret_cast<const unsigned*>(bits);
      if constexpr (kHighWords == 2) {
        const uint2 words = *reinterpret_cast<const uint2*>(bits);
        high[r][0] = words.x;
        high[r][1] = words.y;
      }
    }
#pragma unroll
    for (int r = 0; r < kScaleRows; ++r) {
      scales[r] = *reinterpret_cast<const uint4*>(cell + kCell.scales_at + half * kCell.scales + (r * 8 + lane / 4) * 16);
    }
  }

  // q - center of quad w of piece j in row g + 8 r, in signed bytes.
  __device__ __forceinline__ unsigned quad(int r, int j, int w) const {
    if constexpr (kPiece.bits == 8) {
      return word_of(low[r][j / 2], 2 * (j % 2) + w);
    } else {
      unsigned q = word_of(low[r][0], j) >> (4 * w) & 0x0f0f0f0fu;
      if constexpr (kHighWords == 1) q |= shifted(high[r][0], 4 - 2 * j - w) & 0x10101010u;
      if constexpr (kHighWords == 2) q |= shifted(high[r][w], 4 - 2 * j) & 0x30303030u;
      return centered<kPiece.center>(q);
    }
  }

  // The 16 bits of row g + 8 r and piece j.
  __device__ __forceinline__ unsigned scale_bits(int r, int j) const { return word_of(scales[0], j) >> (16 * r); }
  // Of whole scales: s, or (Q6_K) the scale of quads w.
  __device__ __forceinline__ int whole_scale(int r, int j, int w) const {
    if constexpr (F == Format::kQ6_K) return static_cast<signed char>(scale_bits(r, j) >> (8 * w));
    return static_cast<int>(scale_bits(r, j) & 0xffu);
  }
  // Of the others: d, and d and m.
  __device__ __forceinline__ float scale(int r, int j) const {
    return f32_of_half(kScaleRows == 2 ? word_of(scales[kScaleRows == 2 ? r : 0], j) : scale_bits(r, j));
  }
  __device__ __forceinline__ float minimum(int r, int j) const { return f32_of_half(word_of(scales[r], j) >> 16); }

 private:
  static __device__ __forceinline__ unsigned shifted(unsigned bits, int left) { return left >= 0 ? bits << left : bits >> -left; }
};

// d and dmin of row g + 8 r of a K format's cell; dmin 0 where there is none.
template <Format F>
__device__ __forceinline__ float2 super_scales(const std::byte* cell, int r, int g) {
  constexpr CellLayout kCell = cell_layout(F);
  if constexpr (F == Format::kQ6_K) {
    const unsigned word = reinterpret_cast<const unsigned*>(cell + kCell.super_at)[g];
    return make_float2(f32_of_half(word >> (16 * r)), 0.0f);
  } else {
    return f32_pair(reinterpret_cast<const unsigned*>(cell + kCell.super_at)[g + 8 * r]);
  }
}

// The quads of row g + 8 R that lane 4 g + t holds of a half, exactly: bit for bit what info(format).decode gives. each(j, w,
// float4)
template <Format F, int R, typename Each>
__device__ __forceinline__ void decode_half(const std::byte* cell, int half, int lane, const Each& each) {
  HalfCell<F> held;
  held.load(cell, half, lane);
  float2 super{};
  if constexpr (HalfCell<F>::kWholeScales) super = super_scales<F>(cell, R, lane / 4);
#pragma unroll
  for (int j = 0; j < kHalfPieces; ++j) {
#pragma unroll
    for (int w = 0; w < 2; ++w) {
      float scale = 0.0f, minimum = 0.0f;
      if constexpr (HalfCell<F>::kWholeScales) {
        scale = __fmul_rn(super.x, static_cast<float>(held.whole_scale(R, j, w)));
        if constexpr (HalfCell<F>::kPiece.has_minimum) {
          minimum = -__fmul_rn(super.y, static_cast<float>(held.scale_bits(R, j) >> 8 & 0xffu));
        }
      } else {
        scale = held.scale(R, j);
        if constexpr (HalfCell<F>::kPiece.has_minimum) minimum = held.minimum(R, j);
      }
      const unsigned bytes = held.quad(R, j, w);
      const auto value = [&](int i) {
        const float product = __fmul_rn(scale, static_cast<float>(static_cast<signed char>(bytes >> (8 * i))));
        return HalfCell<F>::kPiece.has_minimum ? __fadd_rn(product, minimum) : product;
      };
      each(j, w, make_float4(value(0), value(1), value(2), value(3)));
    }
  }
}

}  // namespace puna::cuda
