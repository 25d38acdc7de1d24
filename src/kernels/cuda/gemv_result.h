// SPDX-License-Identifier: Apache-2.0
// What becomes of the sums of a product with few rows of X: the norm's factor, the scale of a row, SwiGLU, the residual.
#pragma once

#include "kernels/cuda/gemv_work.h"
#include "kernels/cuda/silu.h"

namespace puna::cuda {

__device__ __forceinline__ float scaled_by_row(const GemvMatrix& matrix, std::int64_t row, float sum) {
  const float* scales = matrix.up != nullptr && row % 2 == 1 ? matrix.up_row_scales : matrix.row_scales;
  return scales == nullptr ? sum : sum * scales[matrix.up == nullptr ? row : row / 2];
}

__device__ __forceinline__ float norm_factor(float squares, std::int64_t width, float eps) {
  return 1.0f / sqrtf(squares / static_cast<float>(width) + eps);
}

// What becomes of the sums of row n of W, or of rows 2 n and 2 n + 1 of a gated pair.
__device__ __forceinline__ void finish(const GemvMatrix& matrix, std::int64_t n, int t, float sum, float up_sum) {
  const std::int64_t at = t * matrix.stride + n;
  if (matrix.up == nullptr) {
    sum = scaled_by_row(matrix, n, sum);
    matrix.y[at] = matrix.residual == nullptr ? sum : __fadd_rn(matrix.residual[at], sum);
  } else {
    matrix.y[at] = silu(scaled_by_row(matrix, 2 * n, sum)) * scaled_by_row(matrix, 2 * n + 1, up_sum);
  }
}

// The norm's factor of row t of X, from the squares that each warp added; 1 where there is no norm.
template <int T>
__device__ __forceinline__ float factor_of(const GemvWork& work, const float (&squares)[T][kGemvWarps], int t) {
  if (work.norm_weight == nullptr) return 1.0f;
  float square = squares[t][0];
  for (int w = 1; w < kGemvWarps; ++w) square = __fadd_rn(square, squares[t][w]);
  return norm_factor(square, work.width, work.norm_eps);
}

template <bool kInQuads>
__device__ __forceinline__ float4 load_quad(const float* from) {
  if constexpr (kInQuads) return *reinterpret_cast<const float4*>(from);
  return make_float4(from[0], from[1], from[2], from[3]);
}

// The matrix that this block has rows of.
__device__ __forceinline__ const GemvMatrix& matrix_of_block(const GemvWork& work) {
  int m = 0;
  while (m + 1 < work.matrices && blockIdx.x >= work.matrix[m + 1].first_block) ++m;
  return work.matrix[m];
}

}  // namespace puna::cuda
