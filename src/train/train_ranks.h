// SPDX-License-Identifier: Apache-2.0
// The networks of a run on its devices, with objective and optimizer: each rank has its part of all of them, computes what the
// others compute, and comes to the same losses and figures, bit for bit. Who trains sees one network.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "model/ranked_parameters.h"
#include "train/batch.h"
#include "train/network.h"
#include "train/objectives/objective.h"
#include "train/optimizer.h"
#include "train/recipe.h"
#include "train/run_devices.h"
#include "train/run_start.h"
#include "train/training_state.h"

namespace puna {

class TrainRanks {
 public:
  // The recipe and `devices` must outlive it. The reference and the teacher are those of `models` that are still there.
  TrainRanks(const Recipe& recipe, const RunModels& models, const ObjectiveInfo& objective, RunDevices& devices);

  // Of one step: its gradients, which stay here, and their norm before clipping.
  struct Step {
    LossReport loss;
    std::int64_t rows = 0;
    double gradient_norm = 0;
  };
  Step compute(const StepBatches& step);
  // Changes the weights by the gradients of the last step.
  void update(double learning_rate, double gradient_norm);

  LossReport evaluate(const PackedBatch& batch, const StepBatches& step);
  // Of the batch's answers under the reference, which is the student without its adapters where there is no other.
  std::vector<double> reference_log_probs(const PackedBatch& batch);
  // Of targets [N] behind rows [N] of the batch, under the student.
  std::vector<double> log_probs(const PackedBatch& batch, std::span<const std::int32_t> rows,
                                std::span<const std::int32_t> targets);
  std::int64_t vocabulary() const { return ranks_.front()->student.head.vocabulary(); }

  // Call when the start's config has changed; `turns`: its rotary frequencies too.
  void config_changed(bool turns);
  // Call when values were changed from outside.
  void values_changed();

  const RankedParameters& parameters() const { return *parameters_; }
  std::int64_t optimizer_steps() const { return ranks_.front()->optimizer.steps(); }
  void set_optimizer_steps(std::int64_t steps);
  // All that a checkpoint keeps of values and moments: as one device has it, but for 8-bit moments of what ranks have parts of,
  // whose blocks are a rank's own.
  std::vector<NamedBytes> states();

 private:
  struct Rank {
    Rank(const Recipe& recipe, const RunModels& models, const ObjectiveInfo& objective, const Device& of_rank);
    Device device;
    Network student;
    std::optional<Network> reference, teacher;
    std::unique_ptr<Objective> objective;
    AdamW optimizer;
  };
  // job(rank's part) on all ranks -> rank 0's result
  template <typename Job>
  auto each(Job&& job) {
    return devices_.each([&](int rank) { return job(*ranks_[static_cast<std::size_t>(rank)]); });
  }

  const Recipe& recipe_;
  RunDevices& devices_;
  std::vector<std::unique_ptr<Rank>> ranks_;
  std::optional<RankedParameters> parameters_;
};

}  // namespace puna
