// SPDX-License-Identifier: Apache-2.0
// log_probs and sums are the host's memory: what gives them waits for the GPU. Targets and weights are the GPU's. A target outside
// the vocabulary is found after the fact (kInternal). Cross-entropy on a GPU: a thread block reads its row once
// (kernels/cuda/row_sum.h), and for the gradient a second time.
#include "kernels/cuda/cuda_kernels.h"

#include "base/error.h"
#include "kernels/cuda/row_sum.h"

namespace puna::cuda {
namespace {

constexpr double kNoTarget = 1;  // in place of a logarithm, which is at most 0

// logits [R, V] -> log_probs [R]
template <int N>
__global__ void __launch_bounds__(kRowThreads) log_prob_of_target(const float* logits, TargetRows rows, double* log_probs) {
  const float* const row = logits + static_cast<std::int64_t>(blockIdx.x) * rows.vocabulary;
  const RowSum row_sum = sum_row<N>(row, rows.vocabulary, 1.0f);
  if (threadIdx.x != 0) return;
  const std::int64_t target = rows.targets[blockIdx.x];
  const bool known = target >= 0 && target < rows.vocabulary;
  log_probs[blockIdx.x] =
      known ? static_cast<double>(row[target]) - static_cast<double>(row_sum.peak) - log(row_sum.sum) : kNoTarget;
}

// The same, and logits become weights[r] (softmax - [v = target]).
template <int N>
__global__ void __launch_bounds__(kRowThreads)
    gradient_of_row(float* logits, TargetRows rows, const float* weights, double* log_probs) {
  float* const row = logits + static_cast<std::int64_t>(blockIdx.x) * rows.vocabulary;
  const RowSum row_sum = sum_row<N>(row, rows.vocabulary, 1.0f);
  const std::int64_t target = rows.targets[blockIdx.x];
  const double weight = weights[blockIdx.x];
  const bool known = target >= 0 && target < rows.vocabulary;
  // Every thread reads the target's logit before any overwrites it.
  const double log_prob =
      known ? static_cast<double>(row[target]) - static_cast<double>(row_sum.peak) - log(row_sum.sum) : kNoTarget;
  __syncthreads();
  const auto factor = static_cast<float>(weight / row_sum.sum);
  for (std::int64_t i = threadIdx.x * N; i < rows.vocabulary; i += kRowThreads * N) {
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

// logits [R, V_r] -> sums [R]
template <int N>
__global__ void __launch_bounds__(kRowThreads) sums_of_row(const float* logits, TargetRows rows, LogitSums* sums) {
  const float* const row = logits + static_cast<std::int64_t>(blockIdx.x) * rows.vocabulary;
  const RowSum row_sum = sum_row<N>(row, rows.vocabulary, 1.0f);
  if (threadIdx.x != 0) return;
  const std::int32_t target = rows.targets[blockIdx.x];
  sums[blockIdx.x] = {static_cast<double>(row_sum.peak), row_sum.sum, target == kNotHere ? 0.0 : static_cast<double>(row[target])};
}

template <int N>
__global__ void __launch_bounds__(kRowThreads) softmax_of_row(float* logits, TargetRows rows, SoftmaxRows softmax) {
  float* const row = logits + static_cast<std::int64_t>(blockIdx.x) * rows.vocabulary;
  const std::int32_t target = rows.targets[blockIdx.x];
  const float peak = softmax.peaks[blockIdx.x], factor = softmax.factors[blockIdx.x], at_target = softmax.at_targets[blockIdx.x];
  for (std::int64_t i = threadIdx.x * N; i < rows.vocabulary; i += kRowThreads * N) {
    auto values = load<N>(row + i);
#pragma unroll
    for (int n = 0; n < N; ++n) values.v[n] = i + n == target ? at_target : factor * expf(values.v[n] - peak);
    store(row + i, values);
  }
}

void copy_log_probs(GpuContext& gpu, const double* results, const TargetRows& rows, double* log_probs) {
  copy_results(gpu, results, rows.rows, log_probs, "cross_entropy");
  for (std::int64_t r = 0; r < rows.rows; ++r) {
    PUNA_CHECK(log_probs[r] != kNoTarget, "cross_entropy", "the target of row {} lies outside the vocabulary of {}", r,
               rows.vocabulary);
  }
}

}  // namespace

void target_log_probs(Device& device, const float* logits, const TargetRows& rows, double* log_probs) {
  if (rows.rows == 0) return;
  GpuContext& gpu = context_of(device);
  double* const results = room_for_results(gpu, rows.rows, "cross_entropy");  // [R]
  const bool in_packs = rows.vocabulary % 4 == 0 && holds_packs(logits);
  launch(gpu, "target_log_probs", in_packs ? log_prob_of_target<4> : log_prob_of_target<1>, static_cast<unsigned>(rows.rows),
         kRowThreads, 0, false, logits, rows, results);
  copy_log_probs(gpu, results, rows, log_probs);
}

void cross_entropy_backward(Device& device, float* logits, const TargetRows& rows, const float* weights, double* log_probs) {
  if (rows.rows == 0) return;
  GpuContext& gpu = context_of(device);
  double* const results = room_for_results(gpu, rows.rows, "cross_entropy");  // [R]
  const bool in_packs = rows.vocabulary % 4 == 0 && holds_packs(logits);
  launch(gpu, "cross_entropy_backward", in_packs ? gradient_of_row<4> : gradient_of_row<1>, static_cast<unsigned>(rows.rows),
         kRowThreads, 0, false, logits, rows, weights, results);
  copy_log_probs(gpu, results, rows, log_probs);
}

void sum_logits(Device& device, const float* logits, const TargetRows& rows, LogitSums* sums) {
  if (rows.rows == 0) return;
  GpuContext& gpu = context_of(device);
  auto* const results = room_for_results<LogitSums>(gpu, rows.rows, "sum_logits");  // [R]
  const bool in_packs = rows.vocabulary % 4 == 0 && holds_packs(logits);
  launch(gpu, "sum_logits", in_packs ? sums_of_row<4> : sums_of_row<1>, static_cast<unsigned>(rows.rows), kRowThreads, 0, false,
         logits, rows, results);
  copy_results(gpu, results, rows.rows, sums, "sum_logits");
}

void softmax_gradient(Device& device, float* logits, const TargetRows& rows, const SoftmaxRows& softmax) {
  if (rows.rows == 0) return;
  GpuContext& gpu = context_of(device);
  const bool in_packs = rows.vocabulary % 4 == 0 && holds_packs(logits);
  launch(gpu, "softmax_gradient", in_packs ? softmax_of_row<4> : softmax_of_row<1>, static_cast<unsigned>(rows.rows), kRowThreads,
         0, false, logits, rows, softmax);
}

}  // namespace puna::cuda
