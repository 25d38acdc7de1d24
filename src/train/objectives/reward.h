// SPDX-License-Identifier: Apache-2.0
// A reward model (Llama 2, Touvron et al., 2023, eq. 1, without the margin; Llama 3, §4.1.2): a scalar head on the state of each
// answer's last token, which is named by the data and not searched for:
//   r = w · hidden[end_row],   loss = mean over groups of the mean over pairs of -log sigma(r_better - r_worse)
// The head is the parameter "score.weight" [1, D], drawn from normal(0, 1 / sqrt(D + 1)) (Stiennon et al., 2020); it does not
// decay. Figures: "accuracy" (a tie counts one half), "margin" r_better - r_worse, "better" and "worse" the rewards; means as the
// loss's. Whether an answer has seen the others is the batch's affair (reward.rows of a recipe).
#pragma once

#include <memory>
#include <vector>

#include "train/objectives/objective.h"

namespace puna {

std::vector<ExtraParameter> reward_head(const ModelConfig& config);
std::unique_ptr<Objective> make_reward(const ObjectiveContext& context);

}  // namespace puna
