// SPDX-License-Identifier: Apache-2.0
#include "train/train_ranks.h"

#include <fmt/format.h>

#include <utility>

#include "train/objectives/answers.h"
#include "train/run_plan.h"

namespace puna {

TrainRanks::Rank::Rank(const Recipe& recipe, const RunModels& models, const ObjectiveInfo& info, const Device& of_rank)
    : device(of_rank),
      student(models.start, train_choice(recipe, models.start->config, info), device, recipe.batch_tokens,
              kept_activations(recipe)),
      optimizer(student.parameters, optimizer_options(recipe), device) {
  const bool own_reference = models.reference && (recipe.lora.rank == 0 || models.reference != models.start);
  if (own_reference) reference.emplace(models.reference, read_only(), device, recipe.batch_tokens, Keep::kNothing);
  if (models.teacher) teacher.emplace(models.teacher, read_only(), device, recipe.batch_tokens, Keep::kNothing);
  objective = info.make({.parameters = student.parameters,
                         .head = student.head,
                         .device = device,
                         .max_rows = recipe.batch_tokens,
                         .options = objective_options(recipe),
                         .teacher = teacher ? teacher->pass.get() : nullptr,
                         .teacher_head = teacher ? &teacher->head : nullptr});
}

TrainRanks::TrainRanks(const Recipe& recipe, const RunModels& models, const ObjectiveInfo& objective, RunDevices& devices)
    : recipe_(recipe), devices_(devices) {
  std::vector<const Parameters*> parameters;
  for (int rank = 0; rank < devices.ranks(); ++rank) {
    ranks_.push_back(std::make_unique<Rank>(recipe, models, objective, devices[rank]));
    parameters.push_back(&ranks_.back()->student.parameters);
  }
  parameters_.emplace(std::move(parameters));
}

TrainRanks::Step TrainRanks::compute(const StepBatches& step) {
  return each([&](Rank& rank) {
    Parameters& parameters = rank.student.parameters;
    parameters.zero_gradients(rank.device);
    Step result;
    for (const PackedBatch& batch : step.batches) {
      result.rows += static_cast<std::int64_t>(batch.tokens.size());
      const std::span<const float> hidden = rank.student.forward(batch);
      const std::span<float> dhidden = rank.student.pass->dhidden();
      result.loss += rank.objective->gradient(batch, step, hidden, dhidden);
      rank.student.pass->backward(dhidden);
    }
    parameters.finish_gradients(rank.device);
    result.gradient_norm = rank.optimizer.gradient_norm();
    return result;
  });
}

void TrainRanks::update(double learning_rate, double gradient_norm) {
  each([&](Rank& rank) { rank.optimizer.step(learning_rate, gradient_norm); });
}

LossReport TrainRanks::evaluate(const PackedBatch& batch, const StepBatches& step) {
  return each([&](Rank& rank) { return rank.objective->evaluate(batch, step, rank.student.forward(batch)); });
}

std::vector<double> TrainRanks::reference_log_probs(const PackedBatch& batch) {
  return each([&](Rank& rank) {
    Network& judge = rank.reference ? *rank.reference : rank.student;
    return answer_log_probs(judge.head, batch, judge.forward(batch, false));
  });
}

std::vector<double> TrainRanks::log_probs(const PackedBatch& batch, std::span<const std::int32_t> rows,
                                          std::span<const std::int32_t> targets) {
  return each([&](Rank& rank) {
    std::vector<double> log_probs(targets.size());
    rank.student.head.log_probs({.hidden = rank.student.forward(batch), .rows = rows, .targets = targets}, log_probs);
    return log_probs;
  });
}

void TrainRanks::config_changed(bool turns) {
  for (const auto& rank : ranks_) {
    rank->student.parameters.config_changed();
    if (turns) rank->student.replan(rank->device, recipe_.batch_tokens, kept_activations(recipe_));
  }
}

void TrainRanks::values_changed() {
  each([](Rank& rank) { rank.student.parameters.values_changed(rank.device); });
}

void TrainRanks::set_optimizer_steps(std::int64_t steps) {
  for (const auto& rank : ranks_) rank->optimizer.set_steps(steps);
}

std::vector<NamedBytes> TrainRanks::states() {
  std::vector<NamedBytes> states;
  const std::span<const ParameterEntry> entries = parameters_->entries();
  for (std::size_t i = 0; i < entries.size(); ++i) states.push_back({"value." + entries[i].name, parameters_->values(i)});
  const std::span<const AdamW::State> of_first = ranks_.front()->optimizer.state();
  for (std::size_t i = 0; i < of_first.size(); ++i) {
    const ParameterEntry& entry = entries[of_first[i].parameter];
    std::vector<RankedBytes::Part> parts;
    for (const auto& rank : ranks_) parts.push_back({rank->optimizer.state()[i].bytes, &rank->device});
    if (of_first[i].by_value || entry.axis == ShardAxis::kNone) {
      states.push_back({of_first[i].name, RankedBytes(std::move(parts), entry.axis, entry.whole[0])});
      continue;
    }
    for (std::size_t rank = 0; rank < parts.size(); ++rank) {
      states.push_back({fmt::format("{}, rank {} of {}", of_first[i].name, rank, parts.size()),
                        RankedBytes({parts[rank]}, ShardAxis::kNone, 1)});
    }
  }
  return states;
}

}  // namespace puna
