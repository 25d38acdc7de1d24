// SPDX-License-Identifier: Apache-2.0
// What one launch of the kernels of kernels/cuda/gemv.h does: several matrices of one format times the same rows of X.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/context.h"
#include "tensor/format.h"

namespace puna::cuda {

inline constexpr int kGemvMatrices = 6;  // of one launch
inline constexpr int kGemvThreads = 512, kGemvWarps = kGemvThreads / 32;
inline constexpr int kMostSplits = 4;       // warps that share the sums of a row of floats
inline constexpr int kMostBlockRows = 128;  // rows of W, in floats, of one block

// y [T, N] = X W^T (+ residual), or with `up` [F, K]: y [T, F] = silu(X W^T) * (X up^T). Pairs of rows of W and up then count as
// two neighbours of one matrix of 2 F rows.
struct GemvMatrix {
  const std::byte* weight;
  const std::byte* up;         // or nullptr
  const float* row_scales;     // [N] or nullptr
  const float* up_row_scales;  // [F] or nullptr
  float* y;                    // rows `stride` apart
  const float* residual;       // the same, or nullptr
  std::int64_t stride;
  std::int64_t rows;         // N, or 2 F
  std::int64_t first_block;  // of this matrix in the grid
};

struct GemvWork {
  const float* x;            // [T, K]
  const float* norm_weight;  // [K] or nullptr: X = x
  float norm_eps;
  int rows;            // T
  std::int64_t width;  // K
  int matrices;
  int block_rows;  // rows of W of a block
  int splits;      // warps that share a row
  int split_bits;  // splits = 2^split_bits, of quantized weights
  int slots;       // of the ring (kernels/cuda/gemv_cells_kernel.h)
  bool in_quads;   // x and norm_weight may be read 16 bytes at a time
  GemvMatrix matrix[kGemvMatrices];
};

// Most rows of X, at most `rows`, that one launch takes: 0 where the rows of W must be read value by value, or where not even one
// row of X fits a block's shared memory.
template <Format F>
int gemv_rows(const GpuContext& gpu, std::int64_t rows, std::int64_t width);
// Sets first_block, block_rows, splits, split_bits and slots, and launches. work.rows is at most gemv_rows().
template <Format F>
void launch_gemv(GpuContext& gpu, GemvWork& work);
// The same of matrix[0] for any width and any number of rows, slowly.
template <Format F>
void launch_gemv_of_any(GpuContext& gpu, GemvWork& work);

// Where these are instantiated (gemv_rows.cu, gemv_cells_blocks.cu, gemv_cells_super_blocks.cu).
#define PUNA_GEMV_OF(format)                                                                \
  template int gemv_rows<format>(const GpuContext&, std::int64_t rows, std::int64_t width); \
  template void launch_gemv<format>(GpuContext&, GemvWork&);                                \
  template void launch_gemv_of_any<format>(GpuContext&, GemvWork&)

}  // namespace puna::cuda
