// SPDX-License-Identifier: Apache-2.0
// What a run begins with: the models its recipe names, opened, what of them is trained, and where.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "model/checkpoint.h"
#include "model/parameters.h"
#include "train/data/loader.h"
#include "train/objectives/objective.h"
#include "train/optimizer.h"
#include "train/recipe.h"

namespace puna {

// The path behind a model's name or path. Throws kNotFound.
using ModelResolver = std::function<std::filesystem::path(const std::string& name)>;

struct RunModels {
  std::shared_ptr<Checkpoint> start;            // a new model has a config and a tokenizer only
  std::shared_ptr<const Checkpoint> reference;  // for objectives that compare with one; may be `start`
  std::shared_ptr<const Checkpoint> teacher;    // for objectives that learn from one; null: the data brings what it says
};
// Throws what opening throws, kUsage where the recipe's parts contradict each other (vocabularies that differ, no tokenizer, …).
RunModels open_run_models(const Recipe& recipe, const ModelResolver& resolve);

// The shape of a new model: a known one, one number for everything, or figure by figure.
//   depth d: d layers, width 64 d, heads of 64, as many key and value heads as query heads up to 4 and a quarter of them above,
//   feed_forward 8/3 of the width rounded up to a multiple of 32 (Touvron et al., 2023, section 2.2)
ModelConfig new_model_config(const Recipe& recipe, std::int64_t vocabulary);

// Throws kUnsupported, with the numbers that would do, where a model does not split over so many devices.
void check_run_shares(const RunModels& models, int devices);

TrainChoice train_choice(const Recipe& recipe, const ModelConfig& config, const ObjectiveInfo& objective);
AdamwOptions optimizer_options(const Recipe& recipe);
ObjectiveOptions objective_options(const Recipe& recipe);
// Of data, or of validation: that is read once and in order.
DataOptions data_options(const Recipe& recipe, const RunModels& models, bool validation);
// Every row once, in the order of the files, whatever the mixture.
DataOptions in_order_once(DataOptions options);
// With the start's tokenizer and prompt format; models.start must outlive it.
std::unique_ptr<Loader> open_loader(DataOptions options, const RunModels& models);

}  // namespace puna
