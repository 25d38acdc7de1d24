// SPDX-License-Identifier: Apache-2.0
// What a model says while it learns: continuations of the recipe's watch.samples.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "model/checkpoint.h"
#include "train/recipe.h"
#include "train/run_plan.h"

namespace puna {

// Throws kUsage for a prompt that no stage of the run can continue. One that only a later stage can is no error.
void check_samples(const Recipe& recipe, const Checkpoint& start, const RunPlan& plan);

// Of at most 2048 positions with their prompts. On the CPU, also beside a GPU, whose memory the training may fill. `told` is called
// with each prompt and what follows it. Throws what the engine throws.
void write_samples(const Recipe& recipe, const std::shared_ptr<const Checkpoint>& model, int threads,
                   const std::function<void(std::string_view prompt, std::string_view text)>& told);

}  // namespace puna
