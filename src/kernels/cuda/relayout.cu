// SPDX-License-Identifier: Apache-2.0
// A thread takes a half's four pieces of one row: it picks the stored numbers q out of their blocks and writes them into every part
// of the cell. The bus is slower than any of this.
#include "kernels/cuda/relayout.h"

#include "base/error.h"
#include "kernels/cuda/mma.h"
#include "kernels/cuda/weight_cells.h"
#include "tensor/blocks.h"

namespace puna::cuda {
namespace {

constexpr int kThreads = 128;

// A piece between its two layouts: q as stored (Q8_0: the signed bytes), and what the scales and the super part hold of its row.
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
__device__ __forceinline__ void put(std::byte* part, int at, unsigned word) {
  reinterpret_cast<Word*>(part)[at] = static_cast<Word>(word);
}

// Four values of a piece, of which the lower four bits (or eight) go to `low` and the others to `high`, each from its byte's bit 0.
struct Quad {
  unsigned low = 0, high = 0;
};
template <Format F>
__device__ Quad quad_of(const LoosePiece& piece, int first) {
  constexpr bool kBytes = piece_layout(F).bits == 8;
  Quad quad;
  for (int i = 0; i < kQuad; ++i) {
    const unsigned q = piece.q[first + i];
    quad.low |= (kBytes ? q : q & 15u) << (8 * i);
    if (!kBytes) quad.high |= (q >> 4) << (8 * i);
  }
  return quad;
}

// The pieces of half `half` into row `row` of a tile's cell.
template <Format F>
__device__ void write(const LoosePiece (&pieces)[kHalfPieces], std::byte* cell, int half, int row) {
  constexpr PieceLayout kPiece = piece_layout(F);
  constexpr CellLayout kCell = cell_layout(F);
  const int g = row % 8, r = row / 8;
  std::byte *const low = cell + half * kCell.low, *const high = cell + kCell.high_at + half * kCell.high,
                   *const scales = cell + kCell.scales_at + half * kCell.scales;
  for (int t = 0; t < 4; ++t) {
    const int lane = 4 * g + t;
    unsigned bits[2] = {};
    for (int j = 0; j < kHalfPieces; ++j) {
      for (int w = 0; w < 2; ++w) {
        const Quad quad = quad_of<F>(pieces[j], 4 * t + 16 * w);
        if constexpr (kPiece.bits == 8) {
          put<unsigned>(low, ((r * 2 + j / 2) * 32 + lane) * 4 + 2 * (j % 2) + w, quad.low);
        } else if constexpr (kPiece.bits == 6) {
          bits[w] |= quad.high << (2 * j);
        } else {
          bits[0] |= quad.high << (2 * j + w);
        }
      }
      if constexpr (kPiece.bits < 8) {
        put<unsigned>(low, ((r * 32 + lane) * 4) + j,
                      quad_of<F>(pieces[j], 4 * t).low | quad_of<F>(pieces[j], 4 * t + 16).low << 4);
      }
    }
    for (int word = 0; word < kPiece.bits - 4 && kPiece.bits < 8; ++word) {
      put<unsigned>(high, (r * 32 + lane) * (kPiece.bits - 4) + word, bits[word]);
    }
  }
  for (int j = 0; j < kHalfPieces; ++j) {
    if constexpr (kPiece.scale_bits == 32) {
      put<unsigned>(scales, (r * 8 + g) * 4 + j, pieces[j].scale);
    } else {
      put<unsigned short>(scales, (g * 4 + j) * 2 + r, pieces[j].scale);
    }
  }
  if constexpr (kPiece.super_bits == 32) put<unsigned>(cell + kCell.super_at, row, pieces[0].super);
  if constexpr (kPiece.super_bits == 16) put<unsigned short>(cell + kCell.super_at, 2 * g + r, pieces[0].super);
}

template <Format F, typename Block>
__global__ void __launch_bounds__(kThreads) relayout_kernel(const BlockRows of) {
  constexpr int kPieces = piece_layout(F).super_bits > 0 ? kCellPieces : 1;  // of a block
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x, halves = 2 * cells_of(of.width);
  if (index >= of.rows * halves) return;
  const std::int64_t row = of.first + index / halves, half = index % halves, pieces = of.width / kPieceValues;
  LoosePiece loose[kHalfPieces] = {};
  for (int j = 0; j < kHalfPieces; ++j) {
    const std::int64_t at = half * kHalfPieces + j;
    if (at >= pieces) break;  // the rest of the last cell is zeros
    const auto* block = reinterpret_cast<const Block*>(of.blocks) + (index / halves * pieces + at) / kPieces;
    take(*block, static_cast<int>(at % kPieces), loose[j]);
  }
  std::byte* const cell = of.matrix + row / kTileRows * tile_bytes(F, of.width) + half / 2 * cell_layout(F).bytes;
  write<F>(loose, cell, static_cast<int>(half % 2), static_cast<int>(row % kTileRows));
}

template <Format F, typename Block>
void relayout(GpuContext& gpu, const BlockRows& of) {
  PUNA_CHECK(of.width % info(F).block_values == 0, "weights", "rows of {} values are not whole blocks", of.width);
  const unsigned grid = blocks_for(of.rows * 2 * cells_of(of.width), kThreads);
  launch(gpu, "relayout", relayout_kernel<F, Block>, grid, kThreads, 0, false, of);
}

}  // namespace

void relayout_rows(GpuContext& gpu, Format format, const BlockRows& of) {
  if (of.rows * of.width == 0) return;
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
