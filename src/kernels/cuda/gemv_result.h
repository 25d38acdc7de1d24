// SPDX-License-Identifier: Apache-2.0
// What becomes of the sums of a product with few rows of X: the norm's factor, the scale of a row, SwiGLU, the residual.
#pragma once

#include "kernels/cuda/gemv_work.h"
#include "kernels/cuda/silu.h"

namespace puna::cuda {

__device__ __forceinline__ float norm_factor(float squares, std::int64_t width, float eps) {
  return 1.0f / sqrtf(squares / static_cast<float>(width) + eps);
}

// What meets the sum of a number of Y beside the factor: scales of its rows of W and of `up`, and the residual.
struct BesideSums {
  float scale, up_scale, residual;
};
__device__ __forceinline__ BesideSums beside_sums(const GemvMatrix& matrix, std::int64_t n, int t) {
  return {matrix.row_scales == nullptr ? 1.0f : matrix.row_scales[n],
          matrix.up_row_scales == nullptr ? 1.0f : matrix.up_row_scales[n],
          matrix.residual == nullptr ? 0.0f : matrix.residual[t * matrix.stride + n]};
}

// Number n of row t of Y, from the sum of row n of W and, of a gated pair, from that of row n of `up`.
__device__ __forceinline__ void finish(const GemvMatrix& matrix, std::int64_t n, int t, float sum, float up_sum,
                                       const BesideSums& beside) {
  float& y = matrix.y[t * matrix.stride + n];
  sum *= beside.scale;
  if (matrix.up != nullptr) {
    y = silu(sum) * (up_sum * beside.up_scale);
  } else {
    y = matrix.residual == nullptr ? sum : __fadd_rn(beside.residual, sum);
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
