// SPDX-License-Identifier: Apache-2.0
// What is wrong with a recipe before a file is opened.
#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/nearest.h"
#include "kernels/gpu.h"
#include "train/data/data_options.h"
#include "train/held_out.h"
#include "train/recipe.h"

namespace puna {
namespace {

template <typename... Args>
void require(bool holds, const char* field, fmt::format_string<Args...> text, Args&&... args) {
  if (!holds) fail(ErrorKind::kUsage, field, text, std::forward<Args>(args)...);
}

void check_sizes(const Recipe& r) {
  require(r.sequence_length >= 2, "sequence_length", "is {}, expected 2 tokens or more", r.sequence_length);
  require(r.batch_tokens >= r.sequence_length, "batch_tokens", "is {}, expected at least sequence_length ({})", r.batch_tokens,
          r.sequence_length);
  require(r.step_tokens >= 1, "step_tokens", "is {}, expected 1 or more", r.step_tokens);
  require(r.steps >= 0, "steps", "is {}, expected 0 or more", r.steps);
  require(r.epochs >= 0, "epochs", "is {}, expected 0 or more", r.epochs);
  const bool staged = !r.stages.empty();
  const int ends = (r.steps > 0) + (r.epochs > 0) + staged;
  require(ends == 1, "steps", "exactly one of steps, epochs and stages says how long the run is; {} of them are given", ends);
}

// 0 means "as before", or "none", in all of them.
void check_stage_figures(const StageRecipe& stage) {
  const std::pair<const char*, double> figures[] = {{"sequence_length", static_cast<double>(stage.sequence_length)},
                                                    {"step_tokens", static_cast<double>(stage.step_tokens)},
                                                    {"learning_rate", stage.learning_rate},
                                                    {"rope_theta", stage.rope_theta},
                                                    {"rope_scaling_factor", stage.rope_scaling_factor},
                                                    {"gate_loss", stage.gate_loss}};
  for (const auto& [name, value] : figures)
    require(value >= 0, "stages", "stage '{}' has a {} of {}, expected 0 or more", stage.name, name, value);
  double sum = 0;
  for (const double weight : stage.data_weights) {
    require(weight >= 0 && std::isfinite(weight), "stages", "stage '{}' has {} among its data_weights, expected 0 or more",
            stage.name, weight);
    sum += weight;
  }
  require(stage.data_weights.empty() || sum > 0, "stages", "stage '{}' has only 0 as data_weights: nothing would be read",
          stage.name);
}

void check_stages(const Recipe& r) {
  std::int64_t length = r.sequence_length;
  for (const StageRecipe& stage : r.stages) {
    require(stage.steps >= 1, "stages", "stage '{}' has {} steps, expected 1 or more", stage.name, stage.steps);
    check_stage_figures(stage);
    if (stage.sequence_length > 0) length = stage.sequence_length;
    require(length >= 2, "stages", "stage '{}' has rows of {} tokens, expected 2 or more", stage.name, length);
    require(length <= r.batch_tokens, "stages", "stage '{}' has rows of {} tokens, more than batch_tokens ({})", stage.name, length,
            r.batch_tokens);
    require(stage.data_weights.empty() || stage.data_weights.size() == r.data.size(), "stages",
            "stage '{}' has {} data_weights for {} entries of data", stage.name, stage.data_weights.size(), r.data.size());
    require(stage.gate_loss == 0 || !r.validation.empty(), "stages", "stage '{}' has a gate_loss, which needs validation data",
            stage.name);
    require(stage.gate_needle >= 0 && stage.gate_needle <= 1, "stages", "stage '{}' has a gate_needle of {}, expected 0 to 1",
            stage.name, stage.gate_needle);
    require(stage.gate_needle == 0 || length >= kShortestHaystack, "stages",
            "stage '{}' has a gate_needle, but rows of {} tokens: a needle is hidden in {} or more", stage.name, length,
            kShortestHaystack);
  }
}

void check_data(const Recipe& r) {
  require(!r.data.empty(), "data", "names nothing to learn from");
  for (const DataRecipe& data : r.data) {
    require(!data.path.empty(), "data", "an entry has no path");
    require(data.weight >= 0, "data", "'{}' has the weight {}, expected 0 or more", data.path, data.weight);
    require((data.weight > 0) == (r.data.front().weight > 0), "data", "'{}' has {} weight: give one to every entry or to none",
            data.path, data.weight > 0 ? "a" : "no");
  }
  for (const std::vector<DataRecipe>* list : {&r.data, &r.validation}) {
    for (const DataRecipe& data : *list) {
      if (data_kind_from_name(data.kind)) continue;
      const std::vector<std::string_view> views = data_kinds();
      const std::vector<std::string> kinds(views.begin(), views.end());
      fail(ErrorKind::kUsage, "data", "'{}' is of kind '{}', expected one of {}{}", data.path, data.kind, fmt::join(kinds, ", "),
           did_you_mean(data.kind, kinds));
    }
  }
}

void check_model(const Recipe& r) {
  const Recipe::NewModel& n = r.new_model;
  if (!r.model.empty()) {
    require(n.shape.empty() && n.depth == 0 && n.layers == 0, "new_model", "is given beside model: choose one");
    return;
  }
  const int ways = !n.shape.empty() + (n.depth > 0) + (n.layers > 0);
  require(ways == 1, "model", "is empty, and new_model says its shape in {} of the ways shape, depth, layers: give exactly one",
          ways);
  require(!r.tokenizer.empty() || n.vocabulary > 0, "tokenizer",
          "a new model needs one (or new_model.vocabulary, for data of tokens)");
  require(r.lora.rank == 0, "lora.rank", "is {}, but a new model has nothing to adapt", r.lora.rank);
  require(n.layers == 0 || (n.width > 0 && n.heads > 0), "new_model.width", "is {} with {} heads: give both beside layers", n.width,
          n.heads);
}

void check_optimizer(const Recipe& r) {
  const Recipe::Optimizer& o = r.optimizer;
  require(o.learning_rate > 0, "optimizer.learning_rate", "is {}, expected more than 0", o.learning_rate);
  require(o.final_learning_rate >= 0 && o.final_learning_rate <= 1, "optimizer.final_learning_rate",
          "is {}, expected a share from 0 to 1", o.final_learning_rate);
  require(o.beta1 >= 0 && o.beta1 < 1, "optimizer.beta1", "is {}, expected 0 to below 1", o.beta1);
  require(o.beta2 >= 0 && o.beta2 < 1, "optimizer.beta2", "is {}, expected 0 to below 1", o.beta2);
  require(o.eps > 0, "optimizer.eps", "is {}, expected more than 0", o.eps);
  require(o.weight_decay >= 0, "optimizer.weight_decay", "is {}, expected 0 or more", o.weight_decay);
  require(o.clip >= 0, "optimizer.clip", "is {}, expected 0 or more", o.clip);
  require(o.warmup >= 0, "optimizer.warmup", "is {}, expected 0 or more", o.warmup);
  require(o.decay >= 0, "optimizer.decay", "is {}, expected 0 or more", o.decay);
}

void check_objective(const Recipe& r) {
  require(r.distillation.ratio >= 0 && r.distillation.ratio <= 1, "distillation.ratio", "is {}, expected 0 to 1",
          r.distillation.ratio);
  require(r.distillation.temperature > 0, "distillation.temperature", "is {}, expected more than 0", r.distillation.temperature);
  require(r.dpo.beta > 0, "dpo.beta", "is {}: the loss would stay at ln 2, expected more than 0", r.dpo.beta);
  require(r.lora.rank >= 0, "lora.rank", "is {}, expected 0 or more", r.lora.rank);
  // Adapters are held against their own base, whose frequencies stages turn.
  const bool turns =
      std::ranges::any_of(r.stages, [](const StageRecipe& stage) { return stage.rope_theta > 0 || stage.rope_scaling_factor > 0; });
  require(!(r.dpo.precompute_reference && r.lora.rank > 0 && turns), "dpo.precompute_reference",
          "is true, but stages change the rotary frequencies of the model that adapters are held against");
}

void check_watch(const Recipe& r) {
  const Recipe::Watch& w = r.watch;
  require(w.log_every >= 1, "watch.log_every", "is {}, expected 1 or more", w.log_every);
  require(w.evaluate_tokens >= 1, "watch.evaluate_tokens", "is {}, expected 1 or more", w.evaluate_tokens);
  require(w.keep >= 1, "watch.keep", "is {}, expected 1 or more", w.keep);
  require(w.sample_tokens >= 1, "watch.sample_tokens", "is {}, expected 1 or more", w.sample_tokens);
  require(w.sample_every <= 0 || !w.samples.empty(), "watch.samples", "names no prompt, but watch.sample_every is {}",
          w.sample_every);
}

}  // namespace

void check_recipe(const Recipe& recipe) {
  device_choice(recipe.device, "device");
  check_sizes(recipe);
  check_stages(recipe);
  check_data(recipe);
  check_model(recipe);
  check_optimizer(recipe);
  check_objective(recipe);
  require(!recipe.out.empty(), "out", "names no folder for the run");
  check_watch(recipe);
}

}  // namespace puna
