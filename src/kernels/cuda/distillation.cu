// SPDX-License-Identifier: Apache-2.0
// Distillation from a teacher's logits on a GPU (kernels/cross_entropy.h). A thread block has a row and reads teacher and student
// once for their sums; where KL(q || p) is asked for once more, because its gradient holds the divergence; and then for the
// gradient, beside which KL(p || q) is summed.
#include "kernels/cuda/cuda_kernels.h"

#include "kernels/cuda/row_sum.h"

namespace puna::cuda {
namespace {

// A row's softmax at a temperature: p[v] = exp(e[v]) / sum, log p[v] = e[v] - log sum, e[v] = factor (logits[v] - peak).
struct TemperedRow {
  float peak, factor, inverse_sum;

  __device__ TemperedRow(const RowSum& row, float inverse_temperature)
      : peak(row.peak), factor(inverse_temperature), inverse_sum(static_cast<float>(1 / row.sum)) {}
  __device__ __forceinline__ float exponent(float logit) const { return factor * (logit - peak); }
  __device__ __forceinline__ float probability(float exponent) const { return expf(exponent) * inverse_sum; }
};

// a (log ratio), but 0 where a is: what a softmax has ruled out adds nothing, even at a logit of -infinity.
__device__ __forceinline__ float share(float a, float log_ratio) { return a == 0 ? 0.0f : a * log_ratio; }

struct DistillationTask {
  const float* student;  // [R, V]
  const float* teacher;  // [R, V]
  const float* weights;  // [R]
  float* dlogits;        // [R, V]
  double* losses;        // [R]
  std::int64_t vocabulary;
  double temperature, forward_share;
};

// The two softmaxes of a row, p the teacher's.
struct RowPair {
  const float* teacher;
  const float* student;
  std::int64_t vocabulary;
  TemperedRow p, q;
  float log_sums;  // log p - log q is the difference of the exponents and this

  __device__ __forceinline__ float log_ratio(float p_exponent, float q_exponent) const {
    return p_exponent - q_exponent + log_sums;
  }
};

template <int N>
__device__ RowPair pair_of(const DistillationTask& task, std::int64_t row) {
  const float* const teacher = task.teacher + row * task.vocabulary;
  const float* const student = task.student + row * task.vocabulary;
  const auto inverse = static_cast<float>(1 / task.temperature);
  const RowSum of_teacher = sum_row<N>(teacher, task.vocabulary, inverse);
  const RowSum of_student = sum_row<N>(student, task.vocabulary, inverse);
  return {teacher,
          student,
          task.vocabulary,
          TemperedRow(of_teacher, inverse),
          TemperedRow(of_student, inverse),
          static_cast<float>(log(of_student.sum) - log(of_teacher.sum))};
}

// KL(q || p); every thread gets it.
template <int N>
__device__ double reverse_divergence(const RowPair& row) {
  double sum = 0;  // of this thread
  for (std::int64_t i = threadIdx.x * N; i < row.vocabulary; i += kRowThreads * N) {
    const auto teacher = load<N>(row.teacher + i), student = load<N>(row.student + i);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const float p_exponent = row.p.exponent(teacher.v[n]), q_exponent = row.q.exponent(student.v[n]);
      sum -= static_cast<double>(share(row.q.probability(q_exponent), row.log_ratio(p_exponent, q_exponent)));
    }
  }
  return block_reduce(sum, Sum());
}

template <int N>
__global__ void __launch_bounds__(kRowThreads) distil_row(DistillationTask task) {
  const RowPair row = pair_of<N>(task, blockIdx.x);
  const double reverse_share = 1 - task.forward_share;
  const double reverse = reverse_share > 0 ? reverse_divergence<N>(row) : 0;
  const double step = static_cast<double>(task.weights[blockIdx.x]) * task.temperature;
  const auto forward_factor = static_cast<float>(step * task.forward_share);
  const auto reverse_factor = static_cast<float>(step * reverse_share), mean = static_cast<float>(reverse);
  float* const dlogits = task.dlogits + blockIdx.x * task.vocabulary;
  double forward = 0;  // of this thread
  for (std::int64_t i = threadIdx.x * N; i < task.vocabulary; i += kRowThreads * N) {
    const auto teacher = load<N>(row.teacher + i), student = load<N>(row.student + i);
    auto gradient = load<N>(dlogits + i);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const float p_exponent = row.p.exponent(teacher.v[n]), q_exponent = row.q.exponent(student.v[n]);
      const float p = row.p.probability(p_exponent), q = row.q.probability(q_exponent);
      const float log_ratio = row.log_ratio(p_exponent, q_exponent);
      if (task.forward_share > 0) forward += static_cast<double>(share(p, log_ratio));
      float change = forward_factor * (q - p);
      if (reverse_share > 0) change -= reverse_factor * share(q, log_ratio + mean);
      gradient.v[n] += change;
    }
    store(dlogits + i, gradient);
  }
  forward = block_reduce(forward, Sum());
  if (threadIdx.x > 0) return;
  task.losses[blockIdx.x] = task.temperature * task.temperature * (task.forward_share * forward + reverse_share * reverse);
}

}  // namespace

void distillation_backward(Device& device, const float* student, const DistillationRows& rows, const float* weights, float* dlogits,
                           double* losses) {
  if (rows.rows == 0) return;
  GpuContext& gpu = context_of(device);
  const DistillationTask task{.student = student,
                              .teacher = rows.teacher,
                              .weights = weights,
                              .dlogits = dlogits,
                              .losses = room_for_results(gpu, rows.rows, "distillation"),
                              .vocabulary = rows.vocabulary,
                              .temperature = rows.temperature,
                              .forward_share = forward_share(rows.direction)};
  const bool in_packs = rows.vocabulary % 4 == 0 && holds_packs(student, rows.teacher, static_cast<const float*>(dlogits));
  launch(gpu, "distillation_backward", in_packs ? distil_row<4> : distil_row<1>, static_cast<unsigned>(rows.rows), kRowThreads, 0,
         false, task);
  copy_results(gpu, task.losses, rows.rows, losses, "distillation");
}

}  // namespace puna::cuda
