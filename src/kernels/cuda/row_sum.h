// SPDX-License-Identifier: Apache-2.0
// What losses over the vocabulary share. A thread block has a row of logits: each thread keeps the largest logit it has met and the
// sum of exponentials relative to it, in F64, in one reading; the block joins them in a fixed order. Results of rows go to the
// host.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/error.h"
#include "kernels/cuda/context.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/reduce.h"

namespace puna::cuda {

inline constexpr int kRowThreads = 512;  // of the block that has a row

// Of some logits: the largest, and sum exp(factor (logit - peak)). The sum is 0 of nothing and of -infinity alone, 1 or more of
// numbers, NaN where one of them is.
struct RowSum {
  float peak = -INFINITY;
  double sum = 0;  // beside a certain prediction the others' exponentials are below the last place of an F32

  template <int N>
  __device__ __forceinline__ void add(const Pack<float, N>& logits, float factor) {
    float largest = logits.v[0];
    bool ruled_out = logits.v[0] == -INFINITY;  // all of them
#pragma unroll
    for (int n = 1; n < N; ++n) {
      largest = fmaxf(largest, logits.v[n]);
      ruled_out = ruled_out && logits.v[n] == -INFINITY;
    }
    if (ruled_out) return;
    if (largest > peak) {
      sum *= static_cast<double>(expf(factor * (peak - largest)));
      peak = largest;
    }
#pragma unroll
    for (int n = 0; n < N; ++n) sum += static_cast<double>(expf(factor * (logits.v[n] - peak)));
  }

  // The sum relative to a peak that is not below this one's.
  __device__ __forceinline__ double relative_to(double other_peak, float factor) const {
    return sum == 0 ? 0.0 : sum * exp(static_cast<double>(factor) * (static_cast<double>(peak) - other_peak));
  }
};

// Of the logits of all threads; every thread gets it.
__device__ __forceinline__ RowSum over_block(const RowSum& of_thread, float factor) {
  const float peak = block_reduce(of_thread.peak, Largest());
  return {peak, block_reduce(of_thread.relative_to(peak, factor), Sum())};
}

// row [V]; every thread gets the result.
template <int N>
__device__ RowSum sum_row(const float* row, std::int64_t vocabulary, float factor) {
  RowSum of_thread;
  for (std::int64_t i = threadIdx.x * N; i < vocabulary; i += kRowThreads * N) of_thread.add(load<N>(row + i), factor);
  return over_block(of_thread, factor);
}

// Room of the workspace for the results of all rows.
template <typename Result = double>
Result* room_for_results(GpuContext& gpu, std::int64_t rows, const char* what) {
  PUNA_CHECK(static_cast<std::size_t>(rows) * sizeof(Result) <= gpu.workspace_bytes, what, "{} rows", rows);
  return static_cast<Result*>(gpu.workspace);
}

// To the host's memory, when the GPU is done.
template <typename Result>
void copy_results(GpuContext& gpu, const Result* results, std::int64_t rows, Result* to, const char* what) {
  check(cudaMemcpyAsync(to, results, static_cast<std::size_t>(rows) * sizeof(Result), cudaMemcpyDeviceToHost, gpu.stream), what);
  check(cudaStreamSynchronize(gpu.stream), what);
}

}  // namespace puna::cuda
