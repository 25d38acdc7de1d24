// SPDX-License-Identifier: Apache-2.0
// Distillation from a teacher of whom only the k likeliest tokens of every row are kept, K, and what all others have together, the
// rest:
//   b[v] = log p[v] for v in K,   b[rest] = log sum_{v not in K} p[v],   p = softmax(teacher)
// Teacher and student are compared over these k + 1 outcomes, both sharpened or softened alike:
//   a[v] = log q[v] for v in K,   a[rest] = log sum_{v not in K} q[v],   q = softmax(student)
//   P = softmax(b / t),   Q = softmax(a / t),   loss = t^2 D(P, Q),   D as in kernels/cross_entropy.h
// With k = V there is no rest, and this is the divergence of the whole softmaxes at every temperature. With less it is never more
// than that at t = 1 (the data-processing inequality), and 0 for a student that is the teacher, in all three directions. The other
// usual choice, p renormalised over K, is neither: forward, it drives the student's rest to 0 though the teacher's is not, and
// reverse is infinite for a student that gives the rest anything.
#pragma once

#include <cstdint>

#include "kernels/cross_entropy.h"
#include "kernels/device.h"

namespace puna {

// K is the k largest logits, of equal ones the lower ids. The host's memory; it is there when the operation returns.
struct TopKRows {
  std::int64_t k;     // 1 to V
  std::int32_t* ids;  // [R, k] ascending in a row
  float* log_probs;   // [R, k] b of these
  float* rest;        // [R] b[rest]; -infinity where k = V
};
// logits [R, V] in the device's memory. NaN among the logits is NaN among the log-probabilities.
void top_k_log_probs(Device& device, const float* logits, std::int64_t rows, std::int64_t vocabulary, const TopKRows& top);

// The device's memory.
struct TopKDistillationRows {
  const std::int64_t* begin;  // [R + 1] row r has the tokens from begin[r] to begin[r + 1]
  const std::int32_t* ids;    // [begin[R]] ascending in a row
  const float* log_probs;     // [begin[R]]
  const float* rest;          // [R]
  std::int64_t rows, vocabulary;
  double temperature;
  KlDirection direction;
};
// Adds weights[r] × the gradient with respect to the student's logits to dlogits [R, V]; losses [R] are unweighted, and the host's
// memory; student [R, V], weights [R] and dlogits are the device's. With
// g = dD / d(a / t):
//   dlogits[v] += weight t g[v] for v in K,   weight t g[rest] q[v] / sum_{u not in K} q[u] for the others
void top_k_distillation_backward(Device& device, const float* student, const TopKDistillationRows& rows, const float* weights,
                                 float* dlogits, double* losses);

}  // namespace puna
