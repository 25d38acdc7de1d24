// SPDX-License-Identifier: Apache-2.0
// Token-level distillation from a teacher with the same vocabulary (Hinton et al., 2015; Muralidharan et al., 2024):
//   loss = sum_t w[t] (ratio t² divergence(teacher, student at t) + (1 - ratio) (-log p(target[t]))) / W
// t is the temperature, W the step's sum of weights. kernels/cross_entropy.h states the divergences from a teacher that is in
// memory. Without one, the batch's rows bring what a teacher said earlier (PackedBatch::teacher, made by `puna distill-data`): its
// k likeliest tokens and the mass of all others, which is one outcome more (kernels/top_k.h). Then divergence is over k + 1
// outcomes:
//   t² divergence(P, Q),   P = softmax(log (p_1, …, p_k, 1 - sum p_i) / t),   Q = softmax(log (q_1, …, q_k, 1 - sum q_i) / t)
// It is the whole divergence where k = V, and 0 for a student that is its teacher whatever k. It says how much the tokens outside
// the k have together; how that is spread over them is left to the cross-entropy. Figures: "kl" the weighted mean divergence, "nll"
// the weighted mean of -log p.
#pragma once

#include <memory>

#include "train/objectives/objective.h"

namespace puna {

// Throws kUsage for a teacher of another vocabulary and for figures outside their ranges, and on batches where neither the context
// nor the data has a teacher.
std::unique_ptr<Objective> make_distillation(const ObjectiveContext& context);

}  // namespace puna
