// SPDX-License-Identifier: Apache-2.0
// A thread takes a piece of 32 values: it picks the stored numbers q out of the block and writes the piece into every run of the
// row. The bus is slower than any of this.
#include "kernels/cuda/relayout.h"

#include "base/error.h"
#include "kernels/cuda/mma.h"
#include "kernels/cuda/weight_rows.h"
#include "tensor/blocks.h"

namespace puna::cuda {
namespace {

constexpr int kThreads = 128;

// A piece between its two layouts: q as stored (Q8_0: the signed bytes), and the words of its scale and super runs.
struct LoosePiece {
  std::uint8_t q[kPieceValues];
  unsigned scale, super;
};

__device__ __forceinline__ unsigned pair_of(unsigned low, unsigned high) { return low | high << 16; }

// Blocks of 32 values with nibbles: value i low, value i + 16 high.
template <typename Block>
__device__ void take_nibbles(const Block& block, LoosePiece& piece) {
  for (int i = 0; i < kHalfBlock; ++i) {
    piece.q[i] = block.q[i] & 15;
    piece.q[i + kHalfBlock] = static_cast<std::uint8_t>(block.q[i] >> 4);
  }
}
template <typename Block>
__device__ void add_fifth_bits(const Block& block, LoosePiece& piece) {
  for (int i = 0; i < kBlock; ++i) piece.q[i] |= static_cast<std::uint8_t>((block.high[i / 8] >> (i % 8) & 1) << 4);
}

__device__ void take(const BlockQ8_0& block, int /*j*/, LoosePiece& piece) {
  for (int i = 0; i < kBlock; ++i) piece.q[i] = static_cast<std::uint8_t>(block.q[i]);
  piece.scale = block.d;
}
__device__ void take(const BlockQ4_0& block, int /*j*/, LoosePiece& piece) {
  take_nibbles(block, piece);
  piece.scale = block.d;
}
__device__ void take(const BlockQ4_1& block, int /*j*/, LoosePiece& piece) {
  take_nibbles(block, piece);
  piece.scale = pair_of(block.d, block.m);
}
__device__ void take(const BlockQ5_0& block, int /*j*/, LoosePiece& piece) {
  take_nibbles(block, piece);
  add_fifth_bits(block, piece);
  piece.scale = block.d;
}
__device__ void take(const BlockQ5_1& block, int /*j*/, LoosePiece& piece) {
  take_nibbles(block, piece);
  add_fifth_bits(block, piece);
  piece.scale = pair_of(block.d, block.m);
}

// Sub-block j of a K block: its six-bit scale in the low byte, its minimum in the high one.
__device__ unsigned scale_and_minimum(const std::uint8_t (&packed)[12], int j) {
  if (j < 4) return (packed[j] & 63u) | (packed[j + 4] & 63u) << 8;
  return (packed[j + 4] & 15u) | (packed[j - 4] >> 6) << 4 | (packed[j + 4] >> 4 | (packed[j] >> 6) << 4) << 8;
}
template <typename Block>
__device__ void take_sub_block(const Block& block, int j, LoosePiece& piece) {
  for (int i = 0; i < kBlock; ++i) piece.q[i] = block.q[j / 2 * kBlock + i] >> (j % 2 * 4) & 15;
  piece.scale = scale_and_minimum(block.scales, j);
  piece.super = pair_of(block.d, block.dmin);
}
__device__ void take(const BlockQ4_K& block, int j, LoosePiece& piece) { take_sub_block(block, j, piece); }
__device__ void take(const BlockQ5_K& block, int j, LoosePiece& piece) {
  take_sub_block(block, j, piece);
  for (int i = 0; i < kBlock; ++i) piece.q[i] |= static_cast<std::uint8_t>((block.high[i] >> j & 1) << 4);
}
__device__ void take(const BlockQ6_K& block, int j, LoosePiece& piece) {
  const int half = j / 4, quarter = j % 4;
  for (int i = 0; i < kBlock; ++i) {
    const int low = block.low[half * 64 + quarter % 2 * 32 + i] >> (quarter / 2 * 4) & 15;
    const int high = block.high[half * 32 + i] >> (quarter * 2) & 3;
    piece.q[i] = static_cast<std::uint8_t>(low | high << 4);
  }
  piece.scale = static_cast<std::uint8_t>(block.scales[2 * j]) |
                static_cast<unsigned>(static_cast<std::uint8_t>(block.scales[2 * j + 1])) << 8;
  piece.super = block.d;
}

template <typename Word>
__device__ __forceinline__ void put(std::byte* run, int at, unsigned word) {
  reinterpret_cast<Word*>(run)[at] = static_cast<Word>(word);
}

// The piece into place `at` of a row.
template <Format F>
__device__ void write(const LoosePiece& piece, std::byte* row, std::int64_t width, int at) {
  constexpr PieceLayout kLayout = piece_layout(F);
  const RowLayout runs = row_layout(F, width);
  const int pieces = static_cast<int>(width / kPieceValues);
  unsigned low[8] = {}, high[2] = {};
  for (int i = 0; i < kPieceValues; ++i) {
    const int word = i / kGroupValues, value = i % kGroupValues;
    if constexpr (F == Format::kQ8_0) {
      low[i / 4] |= static_cast<unsigned>(piece.q[i]) << (8 * (i % 4));
    } else {
      constexpr int kBits = kLayout.high / 4;
      const int bit = 16 * (value % 2) + 4 * (value / 2);
      low[word] |= (piece.q[i] & 15u) << bit;
      high[word * kBits / 4] |= (static_cast<unsigned>(piece.q[i]) >> 4) << (bit + kBits * word % 4);
    }
  }
  for (int i = 0; i < 4 * kLayout.planes; ++i) put<unsigned>(row + i / 4 * pieces * 16, 4 * at + i % 4, low[i]);
  for (int i = 0; i < kLayout.high / 4; ++i) put<unsigned>(row + runs.high, at * (kLayout.high / 4) + i, high[i]);
  put<typename RunWord<kLayout.scale>::Type>(row + runs.scale, at, piece.scale);
  if constexpr (kLayout.super > 0) {
    if (at % kSuperPieces == 0) put<typename RunWord<kLayout.super>::Type>(row + runs.super, at / kSuperPieces, piece.super);
  }
}

template <Format F, typename Block>
__global__ void __launch_bounds__(kThreads)
    relayout_kernel(const std::byte* blocks, std::int64_t rows, std::int64_t width, std::byte* to) {
  constexpr int kPieces = piece_layout(F).super > 0 ? kSuperPieces : 1;  // of a block
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x, pieces = width / kPieceValues;
  if (index >= rows * pieces) return;
  const int at = static_cast<int>(index % pieces);
  LoosePiece piece{};
  take(reinterpret_cast<const Block*>(blocks)[index / kPieces], at % kPieces, piece);
  write<F>(piece, to + index / pieces * row_layout(F, width).bytes, width, at);
}

struct Rows {
  const std::byte* blocks;
  std::int64_t rows, width;
  std::byte* to;
};
template <Format F, typename Block>
void relayout(GpuContext& gpu, const Rows& of) {
  PUNA_CHECK(of.width % info(F).block_values == 0, "weights", "rows of {} values are not whole blocks", of.width);
  const unsigned grid = blocks_for(of.rows * (of.width / kPieceValues), kThreads);
  launch(gpu, "relayout", relayout_kernel<F, Block>, grid, kThreads, 0, false, of.blocks, of.rows, of.width, of.to);
}

}  // namespace

void relayout_rows(GpuContext& gpu, Format format, const std::byte* blocks, std::int64_t rows, std::int64_t width, std::byte* to) {
  if (rows * width == 0) return;
  const Rows of{blocks, rows, width, to};
  switch (format) {
    case Format::kQ8_0:
      return relayout<Format::kQ8_0, BlockQ8_0>(gpu, of);
    case Format::kQ4_0:
      return relayout<Format::kQ4_0, BlockQ4_0>(gpu, of);
    case Format::kQ4_1:
      return relayout<Format::kQ4_1, BlockQ4_1>(gpu, of);
    case Format::kQ5_0:
      return relayout<Format::kQ5_0, BlockQ5_0>(gpu, of);
    case Format::kQ5_1:
      return relayout<Format::kQ5_1, BlockQ5_1>(gpu, of);
    case Format::kQ4_K:
      return relayout<Format::kQ4_K, BlockQ4_K>(gpu, of);
    case Format::kQ5_K:
      return relayout<Format::kQ5_K, BlockQ5_K>(gpu, of);
    case Format::kQ6_K:
      return relayout<Format::kQ6_K, BlockQ6_K>(gpu, of);
    default:
      fail(ErrorKind::kInternal, "weights", "{} is not made of blocks", info(format).name);
  }
}

}  // namespace puna::cuda
