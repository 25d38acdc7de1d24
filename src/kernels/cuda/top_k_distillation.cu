// SPDX-License-Identifier: Apache-2.0
// Distillation from a teacher's likeliest tokens on a GPU (kernels/top_k.h). A thread block has a row and reads it twice: for the
// rest's sum, and for its gradient. The k + 1 outcomes are compared in F64, each made again where it is needed.
#include "kernels/cuda/cuda_kernels.h"

#include "kernels/cuda/kept_tokens.h"

namespace puna::cuda {
namespace {

struct KeptTask {
  const float* student;  // [R, V]
  TopKDistillationRows rows;
  const float* weights;  // [R]
  float* dlogits;        // [R, V]
  double* losses;        // [R]
  double forward_share;
};

// log softmax(values / t) over i = 0 … last; values(i) is a log-probability.
template <typename Values>
struct TemperedOutcomes {
  const Values& values;
  double inverse, log_sum = 0;

  __device__ TemperedOutcomes(const Values& values_in, std::int64_t last, double temperature)
      : values(values_in), inverse(1 / temperature) {
    double peak = -INFINITY, sum = 0;
    for (std::int64_t i = threadIdx.x; i <= last; i += kRowThreads) peak = fmax(peak, values(i) * inverse);
    peak = block_reduce(peak, Greatest());
    for (std::int64_t i = threadIdx.x; i <= last; i += kRowThreads) sum += exp(values(i) * inverse - peak);
    log_sum = peak + log(block_reduce(sum, Sum()));
  }
  __device__ __forceinline__ double operator()(std::int64_t i) const { return values(i) * inverse - log_sum; }
};

// p (log p - log q), but 0 where p is.
__device__ __forceinline__ double share(double log_p, double log_q) {
  return log_p == -INFINITY ? 0.0 : exp(log_p) * (log_p - log_q);
}

template <int N>
__global__ void __launch_bounds__(kRowThreads) distil_kept_row(KeptTask task) {
  __shared__ Marks marks;
  const TopKDistillationRows& rows = task.rows;
  const std::int64_t r = blockIdx.x, first = rows.begin[r], k = rows.begin[r + 1] - first;
  const KeptRow row{task.student + r * rows.vocabulary, rows.vocabulary, rows.ids + first, k};
  const RowSum rest = rest_of<N>(row, marks);
  const Outcomes outcomes = outcomes_of(row, rest);
  const auto a = [&](std::int64_t i) {
    return i == k ? outcomes.log_rest : static_cast<double>(row.logits[row.ids[i]]) - outcomes.log_total;
  };
  const auto b = [&](std::int64_t i) { return static_cast<double>(i == k ? rows.rest[r] : rows.log_probs[first + i]); };
  const TemperedOutcomes q(a, k, rows.temperature);
  const TemperedOutcomes p(b, k, rows.temperature);
  const double reverse_share = 1 - task.forward_share;
  double forward = 0, reverse = 0;
  for (std::int64_t i = threadIdx.x; i <= k; i += kRowThreads) {
    if (task.forward_share > 0) forward += share(p(i), q(i));
    if (reverse_share > 0) reverse += share(q(i), p(i));
  }
  forward = block_reduce(forward, Sum());
  reverse = block_reduce(reverse, Sum());
  const double step = static_cast<double>(task.weights[r]) * rows.temperature;
  const auto slope = [&](std::int64_t i) {
    const double log_p = p(i), log_q = q(i);
    double change = task.forward_share * (exp(log_q) - exp(log_p));
    if (reverse_share > 0) change += reverse_share * (share(log_q, log_p) - exp(log_q) * reverse);
    return step * change;
  };
  float* const dlogits = task.dlogits + r * rows.vocabulary;
  if (rest.sum > 0) {
    const auto of_rest = static_cast<float>(slope(k) / rest.sum);
    each_token<N>(row, marks, [&](std::int64_t i, unsigned kept) {
      const auto logits = load<N>(row.logits + i);
      auto gradient = load<N>(dlogits + i);
#pragma unroll
      for (int n = 0; n < N; ++n) {
        if ((kept >> n & 1) == 0) gradient.v[n] += of_rest * expf(logits.v[n] - rest.peak);
      }
      store(dlogits + i, gradient);
    });
  }
  __syncthreads();  // kept tokens' gradients were written back with their neighbours'
  for (std::int64_t i = threadIdx.x; i < k; i += kRowThreads) dlogits[row.ids[i]] += static_cast<float>(slope(i));
  if (threadIdx.x > 0) return;
  task.losses[r] = rows.temperature * rows.temperature * (task.forward_share * forward + reverse_share * reverse);
}

}  // namespace

void top_k_distillation_backward(Device& device, const float* student, const TopKDistillationRows& rows, const float* weights,
                                 float* dlogits, double* losses) {
  if (rows.rows == 0) return;
  GpuContext& gpu = context_of(device);
  const KeptTask task{
      student, rows, weights, dlogits, room_for_results(gpu, rows.rows, "distillation"), forward_share(rows.direction)};
  const bool in_packs = rows.vocabulary % 4 == 0 && holds_packs(student, static_cast<const float*>(dlogits));
  launch(gpu, "top_k_distillation", in_packs ? distil_kept_row<4> : distil_kept_row<1>, static_cast<unsigned>(rows.rows),
         kRowThreads, 0, false, task);
  copy_results(gpu, task.losses, rows.rows, losses, "distillation");
}

}  // namespace puna::cuda
