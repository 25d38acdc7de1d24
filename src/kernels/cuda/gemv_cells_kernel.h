// SPDX-License-Identifier: Apache-2.0
// The kernels of kernels/cuda/gemv.h for quantized weights (kernels/cuda/weight_cells.h), for one format F and up to T rows of X.
//
// A block has neighbouring tiles of W and all of X. Its last warp keeps a ring of slots in shared memory full: it copies up to
// eight cells at a time, which lie side by side, and begins before the kernel before has ended, as weights do not depend on it. Of
// the other 16 warps, the first eight take a cell each of every other slot, the last eight of the slots between. S of the 16 share
// the sums of a tile, S the largest power of two that divides its cells, and 16 / S tiles are under way at once.
//
// Tensor cores multiply signed bytes and add whole numbers. Each digit (kernels/cuda/gemv_digits.h) of each row of X is a column of
// the product, so a sum is exact up to the scale of the weights; it meets that scale, that of X and the digit's weight in F32.
#pragma once

#include "kernels/cuda/copy_barrier.h"
#include "kernels/cuda/gemv_digits.h"
#include "kernels/cuda/gemv_result.h"
#include "kernels/cuda/gemv_work.h"
#include "kernels/cuda/mma.h"
#include "kernels/cuda/reduce.h"
#include "kernels/cuda/weight_cells.h"

namespace puna::cuda {

inline constexpr int kCellsThreads = kGemvThreads + 32;            // and the warp that copies
inline constexpr int kSlotCells = kGemvWarps / 2, kMostSlots = 4;  // an even number of slots: each has its eight warps
inline constexpr int kMmaColumns = 8;

template <Format F>
inline constexpr int kSlotBytes = kSlotCells* cell_layout(F).bytes;

// A place in the ring, and the parity of the phase that its barriers are in.
struct RingPlace {
  int slot = 0;
  unsigned parity = 0;

  __device__ __forceinline__ void step(int slots) {
    if (++slot < slots) return;
    slot = 0;
    parity ^= 1;
  }
};

// The part of a block's tiles that its warps have under way at once: step by step, a cell each. splits = 2^bits.
struct TileGroups {
  int tiles, bits, at_once, steps;

  __device__ __forceinline__ TileGroups(const GemvWork& work, int block_tiles, int cells)
      : tiles(block_tiles), bits(work.split_bits), at_once(kGemvWarps >> bits), steps(cells >> bits) {}
};

// What the copying warp does, slot by slot in the order in which the others multiply. The eight warps of a slot have parts of one
// tile, or all cells of a step of several. Of a gated pair every other tile is of `up`. As a slot is due every half microsecond,
// lane i < 16 keeps the place in W of the cell that warp i comes to next, which a slot only adds to.
template <Format F>
struct RingFiller {
  static constexpr int kCellBytes = cell_layout(F).bytes;
  const TileGroups& groups;
  std::byte* ring;
  Barrier *full, *empty;
  int slots, lane;
  bool in_turn;              // tiles of a gated pair one by one
  std::int64_t group_bytes;  // from a lane's first cell in a group to that in the next, of pairs in turn in the next but one
  const std::byte* at;       // the lane's cell
  const std::byte* begin;    // its first one in this group
  const std::byte* other;    // of pairs in turn: in the next
  RingPlace place{};
  int group = 0, part = 0;  // part: of a group, two for each step

  __device__ __forceinline__ RingFiller(const GemvMatrix& matrix, const TileGroups& of_groups, int first_tile,
                                        std::int64_t tile_bytes, std::byte* of_ring, Barrier* of_full, Barrier* of_empty,
                                        int of_slots, int of_lane)
      : groups(of_groups), ring(of_ring), full(of_full), empty(of_empty), slots(of_slots), lane(of_lane) {
    const int tile = first_tile + (lane >> groups.bits), cell = lane & ((1 << groups.bits) - 1);
    const bool gated = matrix.up != nullptr;
    const std::int64_t offset = (gated ? tile / 2 : tile) * tile_bytes + cell * kCellBytes;
    in_turn = gated && groups.at_once == 1;
    group_bytes = (gated && !in_turn ? groups.at_once / 2 : groups.at_once) * tile_bytes;
    at = begin = (gated && tile % 2 == 1 ? matrix.up : matrix.weight) + offset;
    other = in_turn ? matrix.up + offset : nullptr;
  }
  __device__ __forceinline__ bool has_more() const { return group < groups.tiles; }
  // As often as it was filled, but for the time that comes now.
  __device__ __forceinline__ void wait_until_taken() { wait_for(empty[place.slot], place.parity ^ 1u); }
  __device__ __forceinline__ void fill() {
    const int first_warp = part % 2 * kSlotCells, tile = group + (first_warp >> groups.bits), splits = 1 << groups.bits;
    const int run = min(splits, kSlotCells);  // cells side by side
    const int here = max(min(kSlotCells / run, groups.tiles - tile), 0);
    const auto run_bytes = static_cast<unsigned>(run * kCellBytes);
    announce(full[place.slot], static_cast<unsigned>(here) * run_bytes, lane);
    for (int i = 0; i < here; ++i) {
      const auto from = __shfl_sync(0xffffffffu, reinterpret_cast<unsigned long long>(at), first_warp + i * run);
      copy_many(ring + (place.slot * kSlotCells + i * run) * kCellBytes, reinterpret_cast<const std::byte*>(from), run_bytes,
                full[place.slot], lane);
    }
    land(full[place.slot]);
    place.step(slots);
    if (++part % 2 != 0) return;
    at += splits * kCellBytes;
    if (part == 2 * groups.steps) next_group();
  }

 private:
  __device__ __forceinline__ void next_group() {
    part = 0;
    group += groups.at_once;
    const std::byte* const next = begin + group_bytes;
    at = begin = in_turn ? other : next;
    other = next;
  }
};

// What a warp adds up of one tile: for column groups of 8 the sums of rows g and g + 8 in columns 2 t and 2 t + 1, and, apart, the
// minimums of lane t's piece times the sums of X. The three digits of one row of X take every other column: a lane then has half as
// many sums to scale.
template <Format F, int T>
struct TileSums {
  static constexpr int kColumns = kDigits * T, kSpread = T == 1 ? 2 : 1, kOfLane = 2 / kSpread;
  static constexpr int kGroups = (kColumns * kSpread + kMmaColumns - 1) / kMmaColumns;
  using Half = HalfCell<F>;

  float acc[kGroups][4] = {};
  float minimums[2][Half::kPiece.has_minimum ? T : 1] = {};

  // Of the row of X that a column belongs to; columns beyond the last are never looked at.
  static __device__ __forceinline__ int row_of(int column) { return T == 1 ? 0 : min(column / kDigits, T - 1); }

  // `at`: the cell, and which of its tile it is.
  __device__ __forceinline__ void add(const std::byte* at, int cell, const SharedDigits<F, T>& shared, const std::byte* memory,
                                      int lane) {
    const int g = lane / 4, t = lane % 4;
    const float* const scales = reinterpret_cast<const float*>(memory + shared.scales) + cell * T;
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      const int column = min((group * kMmaColumns + g) / kSpread, kColumns - 1);
      const std::byte* digits = memory + shared.digits + (cell * (kCellPieces / 2) * kColumns + column) * 64 + t * 16;
      int whole[4] = {};
      float part[4] = {};
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        Half held;
        held.load(at, half, lane);
#pragma unroll
        for (int pair = 0; pair < kHalfPieces / 2; ++pair) {
          const uint4 x = *reinterpret_cast<const uint4*>(digits + (half * kHalfPieces / 2 + pair) * kColumns * 64);
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            const unsigned b[2] = {i == 0 ? x.x : x.z, i == 0 ? x.y : x.w};
            add_piece(held, 2 * pair + i, b, whole, part);
          }
        }
      }
      const float x_scales[2] = {scales[row_of(group * kMmaColumns + 2 * t)], scales[row_of(group * kMmaColumns + 2 * t + 1)]};
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        float d = 1.0f;
        if constexpr (Half::kWholeScales) d = super_scales<F>(at, r, g).x;
#pragma unroll
        for (int c = 0; c < kOfLane; ++c) {
          const float sum = Half::kWholeScales ? d * static_cast<float>(whole[2 * r + c]) : part[2 * r + c];
          acc[group][2 * r + c] = fmaf(sum, x_scales[c], acc[group][2 * r + c]);
        }
      }
    }
    if constexpr (Half::kPiece.has_minimum) add_minimums(at, cell, shared, memory, lane);
  }

  // The sums of row n of X over lanes 4 g to 4 g + 3: lane 4 g gets that of row g, 4 g + 1 that of row g + 8.
  __device__ __forceinline__ float joined(int n, int t) const {
    float of[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if constexpr (T == 1) {  // digit t
        of[r] = acc[0][2 * r] * (t == 0 ? 65536.0f : t == 1 ? 256.0f : t == 2 ? 1.0f : 0.0f);
      } else {
        of[r] = 0.0f;
#pragma unroll
        for (int p = 0; p < kDigits; ++p) {
          const int column = kDigits * n + p, within = column % kMmaColumns;
          const float weight = p == 0 ? 65536.0f : p == 1 ? 256.0f : 1.0f;
          of[r] += t == within / 2 ? acc[column / kMmaColumns][2 * r + within % 2] * weight : 0.0f;
        }
      }
      if constexpr (Half::kPiece.has_minimum) of[r] += minimums[r][n];
    }
    const bool odd = t % 2 == 1;
    const float kept = (odd ? of[1] : of[0]) + __shfl_xor_sync(0xffffffffu, odd ? of[0] : of[1], 1);
    return kept + __shfl_xor_sync(0xffffffffu, kept, 2);
  }

 private:
  // whole [4] or part [4] += the product of piece j with the digits b, times the weights' scales.
  static __device__ __forceinline__ void add_piece(const Half& held, int j, const unsigned (&b)[2], int (&whole)[4],
                                                   float (&part)[4]) {
    if constexpr (F == Format::kQ6_K) {
#pragma unroll
      for (int w = 0; w < 2; ++w) {
        int d[4] = {};
        const unsigned a[2] = {held.quad(0, j, w), held.quad(1, j, w)};
        mma_16x8x16(d, a, b[w]);
#pragma unroll
        for (int i = 0; i < 4; i += kSpread) whole[i] += d[i] * held.whole_scale(i / 2, j, w);
      }
    } else {
      int d[4] = {};
      const unsigned a[4] = {held.quad(0, j, 0), held.quad(1, j, 0), held.quad(0, j, 1), held.quad(1, j, 1)};
      mma_16x8x32(d, a, b);
#pragma unroll
      for (int i = 0; i < 4; i += kSpread) {
        if constexpr (Half::kWholeScales) {
          whole[i] += d[i] * held.whole_scale(i / 2, j, 0);
        } else {
          part[i] = fmaf(static_cast<float>(d[i]), held.scale(i / 2, j), part[i]);
        }
      }
    }
  }

  // Lane t's of the pieces t and t + 4.
  __device__ __forceinline__ void add_minimums(const std::byte* at, int cell, const SharedDigits<F, T>& shared,
                                               const std::byte* memory, int lane) {
    constexpr CellLayout kCell = Half::kCell;
    const int g = lane / 4, t = lane % 4;
    const float* const sums = reinterpret_cast<const float*>(memory + shared.sums) + cell * kCellPieces + t;
    float of_row[2] = {};
    if constexpr (Half::kWholeScales) {
#pragma unroll
      for (int r = 0; r < 2; ++r) of_row[r] = -super_scales<F>(at, r, g).y;
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const auto* const scales = reinterpret_cast<const unsigned*>(at + kCell.scales_at + half * kCell.scales);
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        float minimum = 0.0f;
        if constexpr (Half::kWholeScales) {
          minimum = of_row[r] * static_cast<float>(scales[g * kHalfPieces + t] >> (16 * r + 8) & 0xffu);
        } else {
          minimum = f32_of_half(scales[(r * 8 + g) * kHalfPieces + t] >> 16);
        }
#pragma unroll
        for (int n = 0; n < T; ++n) {
          minimums[r][n] = fmaf(minimum, sums[n * shared.cells * kCellPieces + half * kHalfPieces], minimums[r][n]);
        }
      }
    }
  }
};

template <Format F, int T>
__global__ void __launch_bounds__(kCellsThreads, 1) gemv_cells_kernel(const __grid_constant__ GemvWork work) {
  constexpr int kCellBytes = cell_layout(F).bytes;
  PUNA_DYNAMIC_SHARED(std::byte, ring);
  __shared__ Barrier full[kMostSlots], empty[kMostSlots];
  __shared__ float squares[T][kGemvWarps];
  const SharedDigits<F, T> shared(work.width);
  std::byte* const memory = ring + work.slots * kSlotBytes<F>;
  float* const partial = reinterpret_cast<float*>(memory + shared.bytes);  // [T, rows, splits]

  const GemvMatrix& matrix = matrix_of_block(work);
  const bool gated = matrix.up != nullptr;
  const int outputs = static_cast<int>(gated ? matrix.rows / 2 : matrix.rows), block_tiles = work.block_rows / kTileRows;
  const int first = static_cast<int>(blockIdx.x - matrix.first_block) * block_tiles;
  const int tiles = min((outputs + kTileRows - 1) / kTileRows * (gated ? 2 : 1) - first, block_tiles);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const TileGroups groups(work, tiles, shared.cells);
  const int base = (gated ? first / 2 : first) * kTileRows, here = min((gated ? tiles / 2 : tiles) * kTileRows, outputs - base);
  float* const residual = partial + (T * work.block_rows << groups.bits);  // [T, here]

  if (warp == kGemvWarps) {
    if (lane == 0) {
      for (int slot = 0; slot < work.slots; ++slot) {
        init_barrier(full[slot], kCopyArrivals);
        init_barrier(empty[slot], kSlotCells);
      }
      publish_barriers();
    }
    __syncwarp();
    __syncthreads();
    RingFiller<F> filler(matrix, groups, first, shared.cells * static_cast<std::int64_t>(kCellBytes), ring, full, empty, work.slots,
                         lane);
    for (int i = 0; i < work.slots && filler.has_more(); ++i) filler.fill();
    allow_next_kernel();
    while (filler.has_more()) {
      filler.wait_until_taken();
      filler.fill();
    }
  } else {
    __syncthreads();
    const auto load_x = [&]<bool kInQuads>() {
      DigitLoader<F, T, kInQuads> loader(work);
      wait_for_previous_kernel();
      if (matrix.residual != nullptr) {
        for (int t = 0; t < work.rows; ++t) {
          for (int n = static_cast<int>(threadIdx.x); n < here; n += kGemvThreads)
            copy_async_4(residual + t * here + n, matrix.residual + t * matrix.stride + base + n);
        }
      }
      loader.run(shared, memory, squares);
    };
    if (work.in_quads) {
      load_x.template operator()<true>();
    } else {
      load_x.template operator()<false>();
    }
    sync_threads<kGemvThreads>();
    RingPlace place;
    if (warp >= kSlotCells) place.step(work.slots);
    for (int group = 0; group < tiles; group += groups.at_once) {
      const int tile = group + (warp >> groups.bits), split = warp & ((1 << groups.bits) - 1);
      TileSums<F, T> sums;
      int cell = split;
      for (int step = 0; step < groups.steps; ++step, cell += 1 << groups.bits) {
        wait_for(full[place.slot], place.parity);
        const std::byte* const at = ring + (place.slot * kSlotCells + warp % kSlotCells) * kCellBytes;
        if (tile < tiles) sums.add(at, cell, shared, memory, lane);
        __syncwarp();
        if (lane == 0) arrive(empty[place.slot]);
        place.step(work.slots);
        place.step(work.slots);
      }
      if (tile >= tiles) continue;
#pragma unroll
      for (int n = 0; n < T; ++n) {
        const float sum = sums.joined(n, lane % 4);
        const int row = tile * kTileRows + lane / 4 + lane % 4 * 8;
        if (lane % 4 < 2) partial[((n * work.block_rows + row) << groups.bits) + split] = sum;
      }
    }
    copy_async_commit();
    copy_async_wait<0>();
    sync_threads<kGemvThreads>();

    const auto joined = [&](int row, int t) {
      const float* parts = partial + ((t * work.block_rows + row) << groups.bits);
      float sum = parts[0];
      for (int split = 1; split < 1 << groups.bits; ++split) sum = __fadd_rn(sum, parts[split]);
      return sum;
    };
    for (int t = 0; t < work.rows; ++t) {
      const float factor = factor_of(work, squares, t);
      for (int n = static_cast<int>(threadIdx.x); n < here; n += kGemvThreads) {
        const int row = gated ? n / kTileRows * 2 * kTileRows + n % kTileRows : n;
        const float sum = __fmul_rn(joined(row, t), factor);
        finish(matrix, base + n, t, sum, gated ? __fmul_rn(joined(row + kTileRows, t), factor) : 0.0f,
               {1.0f, 1.0f, matrix.residual == nullptr ? 0.0f : residual[t * here + n]});
      }
    }
  }
}

// For widths of which not even one row of X fits a block's shared memory: a warp for each tile of 16 columns of Y, row by row of X.
template <Format F>
__global__ void __launch_bounds__(kGemvThreads) gemv_of_any_cells_kernel(const __grid_constant__ GemvWork work) {
  wait_for_previous_kernel();
  allow_next_kernel();
  const GemvMatrix& matrix = work.matrix[0];
  const bool gated = matrix.up != nullptr;
  const std::int64_t tile = static_cast<std::int64_t>(blockIdx.x) * kGemvWarps + threadIdx.x / 32;
  const std::int64_t outputs = gated ? matrix.rows / 2 : matrix.rows, bytes = tile_bytes(F, work.width);
  if (tile >= tiles_of(outputs)) return;
  const int lane = static_cast<int>(threadIdx.x) % 32, halves = 2 * static_cast<int>(cells_of(work.width));
  for (int t = 0; t < work.rows; ++t) {
    const float* x = work.x + t * work.width;
    float square = 0.0f;
    if (work.norm_weight != nullptr) {
      for (std::int64_t k = lane; k < work.width; k += 32) square = fmaf(x[k], x[k], square);
    }
    square = warp_reduce(square, Sum());
    const float factor = work.norm_weight == nullptr ? 1.0f : norm_factor(square, work.width, work.norm_eps);
    const auto value = [&](std::int64_t k) { return work.norm_weight == nullptr ? x[k] : x[k] * work.norm_weight[k]; };
    const auto product = [&]<int R>(const std::byte* weight) {  // of row lane / 4 + 8 R
      float sum = 0.0f;
      for (int half = 0; half < halves; ++half) {
        const std::byte* cell = weight + tile * bytes + half / 2 * cell_layout(F).bytes;
        decode_half<F, R>(cell, half % 2, lane, [&](int j, int w, const float4& q) {
          const std::int64_t k = half * kHalfValues + j * kPieceValues + w * kPieceValues / 2 + lane % 4 * kQuad;
          if (k >= work.width) return;
          sum = fmaf(q.w, value(k + 3), fmaf(q.z, value(k + 2), fmaf(q.y, value(k + 1), fmaf(q.x, value(k), sum))));
        });
      }
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      return (sum + __shfl_xor_sync(0xffffffffu, sum, 2)) * factor;
    };
    const auto finish_row = [&]<int R>() {
      const float sum = product.template operator()<R>(matrix.weight);
      const float up_sum = gated ? product.template operator()<R>(matrix.up) : 0.0f;
      const std::int64_t n = tile * kTileRows + lane / 4 + 8 * R;
      if (lane % 4 == 0 && n < outputs) finish(matrix, n, t, sum, up_sum, beside_sums(matrix, n, t));
    };
    finish_row.template operator()<0>();
    finish_row.template operator()<1>();
  }
}

}  // namespace puna::cuda
