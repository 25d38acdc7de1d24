// SPDX-License-Identifier: Apache-2.0
// log_probs are the host's memory: both operations wait for the GPU. Targets and weights are the GPU's. A target outside the
// vocabulary is found after the fact (kInternal). Losses over the vocabulary on a GPU. A thread block has a row: each thread keeps
// the largest logit it has met and the sum of exponentials relative to it, in F64, in one reading. The gradient takes a second
// reading.
#include "kernels/cuda/cuda_kernels.h"

#include "base/error.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/reduce.h"

namespace puna::cuda {
namespace {

constexpr int kThreads = 512;
constexpr double kNoTarget = 1;  // in place of a logarithm, which is at most 0

struct RowSum {
  float peak;
  double sum;  // of exp(logit - peak)
};

// row [V]; all threads get the result.
template <int N>
__device__ RowSum sum_row(const float* row, std::int64_t vocabulary) {
  float peak = -INFINITY;  // of this thread
  double sum = 0;          // beside a certain prediction the others' exponentials are below the last place of an F32
  for (std::int64_t i = threadIdx.x * N; i < vocabulary; i += kThreads * N) {
    const auto logits = load<N>(row + i);
    float largest = logits.v[0];
#pragma unroll
    for (int n = 1; n < N; ++n) largest = fmaxf(largest, logits.v[n]);
    if (largest > peak) {
      sum *= static_cast<double>(expf(peak - largest));
      peak = largest;
    }
    if (peak == -INFINITY) continue;  // ruled out, all of them
#pragma unroll
    for (int n = 0; n < N; ++n) sum += static_cast<double>(expf(logits.v[n] - peak));
  }
  const float row_peak = block_reduce(peak, Largest());
  const double part = peak == -INFINITY ? 0.0 : sum * exp(static_cast<double>(peak) - static_cast<double>(row_peak));
  return {row_peak, block_reduce(part, Sum())};
}

// logits [R, V] -> log_probs [R]
template <int N>
__global__ void __launch_bounds__(kThreads) log_prob_of_target(const float* logits, TargetRows rows, double* log_probs) {
  const float* const row = logits + static_cast<std::int64_t>(blockIdx.x) * rows.vocabulary;
  const RowSum row_sum = sum_row<N>(row, rows.vocabulary);
  if (threadIdx.x != 0) return;
  const std::int64_t target = rows.targets[blockIdx.x];
  const bool known = target >= 0 && target < rows.vocabulary;
  log_probs[blockIdx.x] =
      known ? static_cast<double>(row[target]) - static_cast<double>(row_sum.peak) - log(row_sum.sum) : kNoTarget;
}

// The same, and logits become weights[r] (softmax - [v = target]).
template <int N>
__global__ void __launch_bounds__(kThreads)
    gradient_of_row(float* logits, TargetRows rows, const float* weights, double* log_probs) {
  float* const row = logits + static_cast<std::int64_t>(blockIdx.x) * rows.vocabulary;
  const RowSum row_sum = sum_row<N>(row, rows.vocabulary);
  const std::int64_t target = rows.targets[blockIdx.x];
  const double weight = weights[blockIdx.x];
  const bool known = target >= 0 && target < rows.vocabulary;
  // Every thread reads the target's logit before any overwrites it.
  const double log_prob =
      known ? static_cast<double>(row[target]) - static_cast<double>(row_sum.peak) - log(row_sum.sum) : kNoTarget;
  __syncthreads();
  const auto factor = static_cast<float>(weight / row_sum.sum);
  for (std::int64_t i = threadIdx.x * N; i < rows.vocabulary; i += kThreads * N) {
    auto values = load<N>(row + i);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      values.v[n] = expf(values.v[n] - row_sum.peak) * factor;
      if (i + n == target) values.v[n] = static_cast<float>(weight * expm1(log_prob));  // p - 1 without cancelling
    }
    store(row + i, values);
  }
  if (threadIdx.x == 0) log_probs[blockIdx.x] = log_prob;
}

// Room of the workspace for the results of all rows.
double* room_for(GpuContext& gpu, const TargetRows& rows) {
  PUNA_CHECK(rows.vocabulary > 0 && static_cast<std::size_t>(rows.rows) * sizeof(double) <= gpu.workspace_bytes, "cross_entropy",
             "{} rows of {} logits", rows.rows, rows.vocabulary);
  return static_cast<double*>(gpu.workspace);
}

void copy_results(GpuContext& gpu, const double* results, const TargetRows& rows, double* log_probs) {
  const std::size_t bytes = static_cast<std::size_t>(rows.rows) * sizeof(double);
  check(cudaMemcpyAsync(log_probs, results, bytes, cudaMemcpyDeviceToHost, gpu.stream), "cross_entropy");
  check(cudaStreamSynchronize(gpu.stream), "cross_entropy");
  for (std::int64_t r = 0; r < rows.rows; ++r) {
    PUNA_CHECK(log_probs[r] != kNoTarget, "cross_entropy", "the target of row {} lies outside the vocabulary of {}", r,
               rows.vocabulary);
  }
}

}  // namespace

void target_log_probs(Device& device, const float* logits, const TargetRows& rows, double* log_probs) {
  if (rows.rows == 0) return;
  GpuContext& gpu = context_of(device);
  double* const results = room_for(gpu, rows);  // [R]
  const bool in_packs = rows.vocabulary % 4 == 0 && holds_packs(logits);
  launch(gpu, "target_log_probs", in_packs ? log_prob_of_target<4> : log_prob_of_target<1>, static_cast<unsigned>(rows.rows),
         kThreads, 0, false, logits, rows, results);
  copy_results(gpu, results, rows, log_probs);
}

void cross_entropy_backward(Device& device, float* logits, const TargetRows& rows, const float* weights, double* log_probs) {
  if (rows.rows == 0) return;
  GpuContext& gpu = context_of(device);
  double* const results = room_for(gpu, rows);  // [R]
  const bool in_packs = rows.vocabulary % 4 == 0 && holds_packs(logits);
  launch(gpu, "cross_entropy_backward", in_packs ? gradient_of_row<4> : gradient_of_row<1>, static_cast<unsigned>(rows.rows),
         kThreads, 0, false, logits, rows, weights, results);
  copy_results(gpu, results, rows, log_probs);
}

}  // namespace puna::cuda
