// SPDX-License-Identifier: Apache-2.0
// What a run minimises. An objective reads the hidden states of a packed batch and leaves their gradient; the formula of each is in
// its own header. Objectives are rows of one table: whoever trains knows none of them by name.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "kernels/cross_entropy.h"
#include "model/gradient_pass.h"
#include "model/parameters.h"
#include "train/batch.h"
#include "train/output_head.h"

namespace puna {

// All numbers are this batch's share of the step's: the reports of a step's batches add up to the step's loss and figures.
struct LossReport {
  struct Figure {
    std::string_view name;  // "accuracy", "margin", …
    double value;
  };
  double loss = 0;
  std::int64_t tokens = 0;  // rows that were trained on

  void add(std::string_view name, double value);  // to the figure of that name
  std::span<const Figure> figures() const { return std::span(figures_).first(count_); }
  LossReport& operator+=(const LossReport& other);

 private:
  std::array<Figure, 8> figures_{};
  std::size_t count_ = 0;
};

class Objective {
 public:
  virtual ~Objective() = default;

  // hidden [T, D] of the batch, on the device -> its loss. The gradient is added to dhidden [T, D] there and to the parameters the
  // objective uses (the output matrix, a reward head). `step` holds this batch among others and is what losses are divided by.
  virtual LossReport gradient(const PackedBatch& batch, const StepBatches& step, std::span<const float> hidden,
                              std::span<float> dhidden) = 0;
  // The same figures without gradients.
  virtual LossReport evaluate(const PackedBatch& batch, const StepBatches& step, std::span<const float> hidden) = 0;
};

struct ObjectiveOptions {
  double beta = 0.1, nll_weight = 0.2;  // dpo
  bool length_normalised = false;       // dpo
  bool nll_all_rows = true;             // dpo: format tokens count in the NLL of the chosen answer
  double ratio = 0.5, temperature = 1;  // distillation
  KlDirection direction = KlDirection::kForward;
};

// What an objective is made from; all references outlive it. The teacher is asked for by ObjectiveInfo::needs_teacher; nullptr
// where batches bring what one says.
struct ObjectiveContext {
  Parameters& parameters;
  OutputHead& head;
  Device device;
  std::int64_t max_rows;
  ObjectiveOptions options = {};
  GradientPass* teacher = nullptr;  // Keep::kNothing will do; takes max_rows rows
  OutputHead* teacher_head = nullptr;
};

struct ObjectiveInfo {
  std::string_view name, about;
  bool reads_answers;    // PackedBatch::answers, from preference data
  bool one_row_answers;  // answers of a prompt may see those before them (reward.rows)
  bool needs_reference;  // Answer::reference_log_prob (answer_log_probs() of objectives/answers.h under the reference)
  bool needs_teacher;    // in the context or in PackedBatch::teacher
  bool on_several;       // devices, among which its networks are split; any runs on one, of every kind
  std::vector<ExtraParameter> (*extra)(const ModelConfig& config);  // for TrainChoice::extra
  std::unique_ptr<Objective> (*make)(const ObjectiveContext& context);
};

std::span<const ObjectiveInfo> objectives();
// Throws kUsage naming the nearest.
const ObjectiveInfo& find_objective(std::string_view name);

}  // namespace puna
