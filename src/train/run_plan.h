// SPDX-License-Identifier: Apache-2.0
// What a run will do and hold, known before it starts: its steps with their stages, rates and sizes, and its memory by part.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernels/gpu.h"
#include "train/objectives/objective.h"
#include "train/recipe.h"
#include "train/run_start.h"
#include "train/schedule.h"

namespace puna {

// What one step goes by.
struct StepPlan {
  std::size_t stage = 0;  // of the plan's stages
  double learning_rate = 0;
  std::int64_t sequence_length = 0, step_tokens = 0;
};

class RunPlan {
 public:
  // steps: of the whole run, where the recipe counts epochs; else its own. A recipe without stages has one.
  RunPlan(const Recipe& recipe, std::int64_t steps_of_epochs);

  std::int64_t steps() const { return steps_; }
  StepPlan at(std::int64_t step) const;
  std::size_t stages() const { return stages_.size(); }
  const StageRecipe& stage(std::size_t index) const { return stages_[index].recipe; }
  std::int64_t first_step(std::size_t stage) const { return stages_[stage].first; }
  bool is_last_of_stage(std::int64_t step) const;

 private:
  struct Span {
    StageRecipe recipe;  // with sizes filled in
    std::int64_t first = 0, end = 0;
  };
  std::vector<Span> stages_;
  std::int64_t steps_ = 0;
  Schedule schedule_;
};

// Bytes by part, largest first, against what the machine has, or the GPU; of several GPUs, the one that holds most against the one
// that has least.
struct TrainMemory {
  std::vector<std::pair<std::string, std::int64_t>> parts;
  std::int64_t before = 0;  // instead of them before the first step: the reference, where it is asked once
  std::int64_t available = 0;
  std::string gpu;             // whose memory it is, "4 × NVIDIA H200", or "": the machine's
  std::int64_t host_copy = 0;  // with a GPU, of the machine's memory: a checkpoint while it is written, a stage's average
  std::int64_t total() const;  // of the parts
  std::int64_t peak() const;   // of the parts and of what is held before them
  std::string text() const;
};
// `gpus`: those the recipe names; none: the CPU.
TrainMemory plan_train_memory(const Recipe& recipe, const RunModels& models, const ObjectiveInfo& objective,
                              std::span<const Gpu* const> gpus = {});
// Of a network that is only read, in batches of so many rows: a teacher by itself, on one CPU, or on so many ranks.
TrainMemory plan_reader_memory(const Checkpoint& reader, std::int64_t rows, std::span<const Gpu* const> gpus = {}, int ranks = 1);
// Throws kNoRoom with the figures and what would make it smaller.
void check_train_memory(const TrainMemory& memory, const Recipe& recipe);

Keep kept_activations(const Recipe& recipe);

}  // namespace puna
