// SPDX-License-Identifier: Apache-2.0
// The training loop: step after step, with evaluations, samples, checkpoints and stages when they are due. It knows objectives only
// as rows of their table. A run stopped by a flag, by an error or by kill -9 continues bit for bit from its newest checkpoint:
// every random choice is a function of (seed, step, index), and sums do not depend on threads or on how a step is cut into batches.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/thread_pool.h"
#include "train/metrics.h"
#include "train/recipe.h"
#include "train/run_plan.h"
#include "train/run_start.h"

namespace puna {

struct StepReport {
  std::int64_t step = 0, steps = 0;  // counted from 1, of the whole run
  double loss = 0, gradient_norm = 0, learning_rate = 0;
  std::int64_t rows = 0;           // that went through the network in this step: prompts too
  std::int64_t tokens = 0;         // trained on in this step
  std::int64_t tokens_seen = 0;    // rows of the run so far
  double seconds = 0, epochs = 0;  // of this step; passes over the data so far
  Figures figures;                 // the objective's own: accuracy, margin, …
};

// Who looks at a run. Called on the trainer's thread, between steps.
class TrainObserver {
 public:
  virtual ~TrainObserver() = default;
  virtual void began(const RunPlan& plan, const TrainMemory& memory, std::int64_t trained, std::int64_t first_step) = 0;
  // Before the run begins, where its reference is asked once: rows of the data done, of all.
  virtual void asked_reference(std::int64_t done, std::int64_t all) = 0;
  virtual void stepped(const StepReport& report) = 0;
  virtual void evaluated(std::int64_t step, double loss, const Figures& figures) = 0;
  virtual void sampled(std::int64_t step, std::string_view prompt, std::string_view text) = 0;
  virtual void saved(const std::filesystem::path& folder) = 0;
  virtual void noted(std::string_view text) = 0;
};

enum class RunEnd { kFinished, kStopped };
struct RunResult {
  RunEnd end = RunEnd::kFinished;
  std::int64_t steps = 0;
  std::optional<double> held_out_loss;
  std::filesystem::path checkpoint;  // the last
};

class Trainer {
 public:
  // The folder recipe.out is made, or must hold the same run when `resume` is set. Throws kUsage where it holds another run or
  // nothing to resume, kNoRoom where the plan does not fit, and what models and data throw; Interrupted where `interrupted` comes
  // true while the reference is asked.
  Trainer(const Recipe& recipe, RunModels models, ThreadPool& pool, TrainObserver& observer, bool resume,
          const std::atomic<bool>* interrupted = nullptr);
  ~Trainer();
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  // Until the plan's end, or the next step after `stop` is raised; both write a checkpoint. Throws kBadInput where a loss is not a
  // number and the recipe says to stop, naming the step's data.
  RunResult run(const std::atomic<bool>& stop);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace puna
