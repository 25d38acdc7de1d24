// SPDX-License-Identifier: Apache-2.0
// The kernels of kernels/cuda/gemv.h for weights in float formats, for one format F and up to T rows of X.
//
// A block of 16 warps has up to 128 neighbouring rows of W and all of X, in F32, in shared memory. A warp's unit of work is R rows
// of W, or, where rows are long, one of S interleaved parts of them. Its lanes have U pieces of each row under way, and as soon as
// one has been used the piece U steps on, maybe of the next unit, is asked for. The first are asked for before the kernel waits for
// the one before it, as weights do not depend on it. Joined sums meet in shared memory, and at the end a thread finishes each
// number of Y: the factor of the norm, which the sums did not have to wait for, the scale of the row, SwiGLU, the residual.
//
// X lies in shared memory as lanes read it: piece p of a row, quad i of the piece (four floats) at quad i stride + p, the stride
// odd, so that neither reading (neighbouring p) nor writing (neighbouring i) meets a bank twice.
#pragma once

#include "kernels/cuda/gemv_result.h"
#include "kernels/cuda/gemv_work.h"
#include "kernels/cuda/mma.h"
#include "kernels/cuda/reduce.h"
#include "kernels/cuda/weight_rows.h"

namespace puna::cuda {

// U, steps of 32 pieces that a warp loads at once, for one row of X. Rows are split into parts of so many steps and more, so the
// order of a sum follows from it; it does not from what is loaded at once for more rows of X.
template <Format F>
inline constexpr int kStepsAtOnce = F == Format::kF32 ? 2 : 4;
template <Format F, int T>
inline constexpr int kUnitSteps = T <= 2 ? kStepsAtOnce<F> : kStepsAtOnce<F> / 2;
template <Format F, int T>
inline constexpr int kUnitRows = T > 2 && F != Format::kF32 ? 4 : 2;

// Where X lies in dynamic shared memory.
template <Format F>
struct SharedX {
  using Piece = WeightPiece<F>;
  static constexpr int kQuads = Piece::kValues / 4;
  int stride, row;  // in quads

  __host__ __device__ explicit SharedX(std::int64_t width)
      : stride(static_cast<int>(width / Piece::kValues) | 1), row(kQuads * stride) {}
  __host__ __device__ std::size_t bytes(int rows) const {
    return static_cast<std::size_t>(rows) * static_cast<std::size_t>(row) * sizeof(float4);
  }
};

// x [rows, K], times the norm's weight, to shared memory; zeros for the rows up to T. squares [T, warps]: of what x was. A thread
// asks for kAtOnce quads before it uses the first.
template <Format F, int T, bool kInQuads>
__device__ __forceinline__ void load_x(const GemvWork& work, const SharedX<F>& shared, float4* quads,
                                       float (&squares)[T][kGemvWarps]) {
  constexpr int kAtOnce = T <= 2 ? 2 : 4;
  const int count = static_cast<int>(work.width / 4), lane = static_cast<int>(threadIdx.x) % 32;
  const bool normed = work.norm_weight != nullptr;
  for (int t = 0; t < T; ++t) {
    const float* x = work.x + t * work.width;
    const int known = t < work.rows ? count : 0;
    float square = 0.0f;
    for (int first = static_cast<int>(threadIdx.x); first - lane < count; first += kAtOnce * kGemvThreads) {
      float4 values[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int quad = first + i * kGemvThreads;
        values[i] = quad < known ? load_quad<kInQuads>(x + 4 * quad) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int quad = first + i * kGemvThreads;
        if (quad - lane >= count) break;
        float4& v = values[i];
        if (normed && quad < known) {
          const float4 w = load_quad<kInQuads>(work.norm_weight + 4 * quad);
          square = fmaf(v.x, v.x, fmaf(v.y, v.y, fmaf(v.z, v.z, fmaf(v.w, v.w, square))));
          v = make_float4(v.x * w.x, v.y * w.y, v.z * w.z, v.w * w.w);
        }
        if (quad < count) quads[t * shared.row + quad % SharedX<F>::kQuads * shared.stride + quad / SharedX<F>::kQuads] = v;
      }
    }
    square = warp_reduce(square, Sum());
    if (lane == 0) squares[t][threadIdx.x / 32] = square;
  }
}

// acc [R, T] += the products of one piece of R rows of W with the same piece of X.
template <Format F, int R, int T>
__device__ __forceinline__ void add_piece(const WeightPiece<F> (&weights)[R], const SharedX<F>& shared, const float4* quads,
                                          int piece, float (&acc)[R][T]) {
#pragma unroll
  for (int group = 0; group < WeightPiece<F>::kGroups; ++group) {
    float w[R][kGroupValues];
#pragma unroll
    for (int r = 0; r < R; ++r) weights[r].decode(group, w[r]);
#pragma unroll
    for (int t = 0; t < T; ++t) {
      const float4* x = quads + t * shared.row + 2 * group * shared.stride + piece;
      const float4 a = x[0], b = x[shared.stride];
#pragma unroll
      for (int r = 0; r < R; ++r) {
        float& sum = acc[r][t];
        sum = fmaf(w[r][3], a.w, fmaf(w[r][2], a.z, fmaf(w[r][1], a.y, fmaf(w[r][0], a.x, sum))));
        sum = fmaf(w[r][7], b.w, fmaf(w[r][6], b.z, fmaf(w[r][5], b.y, fmaf(w[r][4], b.x, sum))));
      }
    }
  }
}

__device__ __forceinline__ const std::byte* row_of(const GemvMatrix& matrix, std::int64_t row, std::int64_t row_bytes) {
  if (matrix.up == nullptr) return matrix.weight + row * row_bytes;
  return (row % 2 == 0 ? matrix.weight : matrix.up) + row / 2 * row_bytes;
}

template <Format F, int T>
__global__ void __launch_bounds__(kGemvThreads, T <= 2 ? 2 : 1) gemv_rows_kernel(const __grid_constant__ GemvWork work) {
  constexpr int R = kUnitRows<F, T>, U = kUnitSteps<F, T>;
  PUNA_DYNAMIC_SHARED(float4, quads);  // [T] rows of SharedX
  __shared__ float partial[kMostBlockRows][kMostSplits][T];
  __shared__ float squares[T][kGemvWarps];

  const GemvMatrix& matrix = matrix_of_block(work);
  const std::int64_t first = (blockIdx.x - matrix.first_block) * work.block_rows;
  const int rows = static_cast<int>(min(matrix.rows - first, static_cast<std::int64_t>(work.block_rows)));
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int pieces = static_cast<int>(work.width / WeightPiece<F>::kValues), splits = work.splits;
  const int units = (rows + R - 1) / R * splits;
  const std::int64_t row_bytes = work.width * float_bytes(F);

  int unit = warp;
  int piece = unit % splits * 32 + lane;  // of this lane in the next step
  const std::byte* row[R];
  WeightPiece<F> weights[U][R];
  const auto point = [&] {
#pragma unroll
    for (int r = 0; r < R; ++r) row[r] = row_of(matrix, first + min(unit / splits * R + r, rows - 1), row_bytes);
  };
  const auto load = [&](int u) {
    const int at = piece + u * splits * 32;
    if (at >= pieces) return;
#pragma unroll
    for (int r = 0; r < R; ++r) weights[u][r].load(row[r], at);
  };
  if (unit < units) {
    point();
#pragma unroll
    for (int u = 0; u < U; ++u) load(u);
  }
  wait_for_previous_kernel();
  allow_next_kernel();
  const SharedX<F> shared(work.width);
  if (work.in_quads) {
    load_x<F, T, true>(work, shared, quads, squares);
  } else {
    load_x<F, T, false>(work, shared, quads, squares);
  }
  __syncthreads();

  float acc[R][T] = {};
  while (unit < units) {
    const int done = unit, now = piece;
    piece += U * splits * 32;
    const bool ends = piece - lane >= pieces;
    if (ends) {
      unit += kGemvWarps;
      piece = unit % splits * 32 + lane;
      if (unit < units) point();
    }
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const int at = now + u * splits * 32;
      if (at < pieces) add_piece<F, R, T>(weights[u], shared, quads, at, acc);
      if (unit < units) load(u);
    }
    if (!ends) continue;
#pragma unroll
    for (int i = 0; i < R * T; ++i) {
      const float sum = warp_reduce(acc[i / T][i % T], Sum());
      if (lane == 0) partial[done / splits * R + i / T][done % splits][i % T] = sum;
      acc[i / T][i % T] = 0.0f;
    }
  }
  __syncthreads();

  const auto joined = [&](int of_row, int t) {
    float sum = partial[of_row][0][t];
    for (int split = 1; split < splits; ++split) sum = __fadd_rn(sum, partial[of_row][split][t]);
    return sum;
  };
  const bool gated = matrix.up != nullptr;
  const int outputs = gated ? rows / 2 : rows;
  for (int i = static_cast<int>(threadIdx.x); i < outputs * work.rows; i += kGemvThreads) {
    const int n = i % outputs, t = i / outputs;
    const float factor = factor_of(work, squares, t);
    const float sum = __fmul_rn(joined(gated ? 2 * n : n, t), factor);
    const std::int64_t output = (gated ? first / 2 : first) + n;
    finish(matrix, output, t, sum, gated ? __fmul_rn(joined(2 * n + 1, t), factor) : 0.0f, beside_sums(matrix, output, t));
  }
}

// The sum of one row of W and one of X over a warp, every value of W read by itself where its row is not whole pieces.
template <Format F>
__device__ __forceinline__ float row_product(const GemvWork& work, const std::byte* row, const float* x, int lane) {
  const auto factor = [&](std::int64_t k) { return work.norm_weight == nullptr ? x[k] : x[k] * work.norm_weight[k]; };
  float sum = 0.0f;
  if (has_whole_pieces<F>(work.width)) {
    for (std::int64_t group = lane; group < work.width / kGroupValues; group += 32) {
      float w[kGroupValues];
      decode_group<F>(row, group, w);
      for (int i = 0; i < kGroupValues; ++i) sum = fmaf(w[i], factor(group * kGroupValues + i), sum);
    }
  } else {
    for (std::int64_t k = lane; k < work.width; k += 32) sum = fmaf(float_value<F>(row, k), factor(k), sum);
  }
  return warp_reduce(sum, Sum());
}

// A warp for each number of a column of Y, row by row of X.
template <Format F>
__global__ void __launch_bounds__(kGemvThreads) gemv_of_any_rows_kernel(const __grid_constant__ GemvWork work) {
  wait_for_previous_kernel();
  allow_next_kernel();
  const GemvMatrix& matrix = work.matrix[0];
  const bool gated = matrix.up != nullptr;
  const std::int64_t n = static_cast<std::int64_t>(blockIdx.x) * kGemvWarps + threadIdx.x / 32;
  if (n >= (gated ? matrix.rows / 2 : matrix.rows)) return;
  const std::int64_t row_bytes = work.width * float_bytes(F);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int t = 0; t < work.rows; ++t) {
    const float* x = work.x + t * work.width;
    float square = 0.0f, up_sum = 0.0f;
    if (work.norm_weight != nullptr) {
      for (std::int64_t k = lane; k < work.width; k += 32) square = fmaf(x[k], x[k], square);
    }
    square = warp_reduce(square, Sum());
    const float factor = work.norm_weight == nullptr ? 1.0f : norm_factor(square, work.width, work.norm_eps);
    const float sum = row_product<F>(work, matrix.weight + n * row_bytes, x, lane);
    if (gated) up_sum = row_product<F>(work, matrix.up + n * row_bytes, x, lane);
    if (lane == 0) finish(matrix, n, t, __fmul_rn(sum, factor), __fmul_rn(up_sum, factor), beside_sums(matrix, n, t));
  }
}

}  // namespace puna::cuda
