// SPDX-License-Identifier: Apache-2.0
// Token-level distillation from a teacher with the same vocabulary (Hinton et al., 2015; Muralidharan et al., 2024):
//   loss = sum_t w[t] (ratio t² divergence(teacher, student at t) + (1 - ratio) (-log p(target[t]))) / W
// t is the temperature; kernels/cross_entropy.h states the divergences, W is the step's sum of weights.
// Figures: "kl" the weighted mean divergence, "nll" the weighted mean of -log p.
#pragma once

#include <memory>

#include "train/objectives/objective.h"

namespace puna {

// Throws kUsage without a teacher, for one of another vocabulary, and for figures outside their ranges.
std::unique_ptr<Objective> make_distillation(const ObjectiveContext& context);

}  // namespace puna
