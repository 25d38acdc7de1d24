// SPDX-License-Identifier: Apache-2.0
// Cross-entropy of the next token:
//   loss = -sum_t w[t] log p(target[t]) / W,   W = the sum of w over the whole step
// The divisor is the step's, so that a step cut into several batches has the loss and gradient of one large batch.
// Pre-training and supervised fine-tuning differ in the weights that their data brings: prompts have weight 0 in the latter.
#pragma once

#include <memory>

#include "train/objectives/objective.h"

namespace puna {

std::unique_ptr<Objective> make_next_token(const ObjectiveContext& context);

}  // namespace puna
