// SPDX-License-Identifier: Apache-2.0
// Losses over the vocabulary, on a chunk of rows of logits: value and gradient in one reading. Sums in F64 per row.
#pragma once

#include <cstdint>

#include "kernels/device.h"

namespace puna {

// Logits and their gradients, targets and weights are the device's memory; what double* points to is the host's, and is there when
// an operation returns.
//
// log_probs[r] = logits[r, targets[r]] - log sum_v exp(logits[r, v]).
struct TargetRows {
  const std::int32_t* targets;    // [R]
  std::int64_t rows, vocabulary;  // R, V
};
void target_log_probs(Device& device, const float* logits, const TargetRows& rows, double* log_probs);

// The gradient of -sum_r weights[r] log p(targets[r]), in place of the logits:
//   dlogits[r, v] = weights[r] (softmax_v(logits[r]) - [v = targets[r]]);   log_probs [R] as above
void cross_entropy_backward(Device& device, float* logits, const TargetRows& rows, const float* weights, double* log_probs);

// The same of logits whose columns lie with the ranks of a team, V_r each (train/output_head.h): what a rank tells the others of
// its columns, and the gradient of them once all is known. `targets` are columns of this rank, or kNotHere.
inline constexpr std::int32_t kNotHere = -1;
struct LogitSums {  // of one row
  double peak;      // max_v logits[v]
  double sum;       // sum_v exp(logits[v] - peak)
  double target;    // logits[target], 0 for kNotHere
};
// -> sums [R] of the host's memory
void sum_logits(Device& device, const float* logits, const TargetRows& rows, LogitSums* sums);
// logits[r, v] = factors[r] exp(logits[r, v] - peaks[r]), at_targets[r] at the target
struct SoftmaxRows {
  const float *peaks, *factors, *at_targets;  // [R]
};
void softmax_gradient(Device& device, float* logits, const TargetRows& rows, const SoftmaxRows& softmax);

// Distillation (Hinton et al., 2015): divergence between the teacher's and the student's softmax at a temperature, times its square
// so that gradients keep their size. p = softmax(teacher / t), q = softmax(student / t):
//   forward KL(p || q),  reverse KL(q || p),  symmetric: their mean
// What a softmax has ruled out adds nothing; a divergence is infinite where the other softmax alone has ruled it out.
enum class KlDirection { kForward, kReverse, kSymmetric };
// Of KL(p || q) in the divergence; KL(q || p) has the rest. One that has no share is not computed: it may be infinite.
constexpr double forward_share(KlDirection direction) {
  return direction == KlDirection::kForward ? 1 : direction == KlDirection::kReverse ? 0 : 0.5;
}
struct DistillationRows {
  const float* teacher;  // [R, V] logits
  std::int64_t rows, vocabulary;
  double temperature;
  KlDirection direction;
};
// Adds weights[r] × the gradient with respect to the student's logits to dlogits [R, V]; losses [R] are unweighted.
void distillation_backward(Device& device, const float* student, const DistillationRows& rows, const float* weights, float* dlogits,
                           double* losses);

}  // namespace puna
