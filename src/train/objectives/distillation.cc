// SPDX-License-Identifier: Apache-2.0
#include "train/objectives/distillation.h"

#include <vector>

#include "base/error.h"
#include "train/objectives/trained_rows.h"

namespace puna {
namespace {

class Distillation : public Objective {
 public:
  explicit Distillation(const ObjectiveContext& context) : context_(context) {}

  LossReport gradient(const PackedBatch& batch, const StepBatches& step, std::span<const float> hidden,
                      std::span<float> dhidden) override {
    return compare(batch, step, hidden, dhidden);
  }

  LossReport evaluate(const PackedBatch& batch, const StepBatches& step, std::span<const float> hidden) override {
    return compare(batch, step, hidden, {});
  }

 private:
  // An empty dhidden: no gradients.
  LossReport compare(const PackedBatch& batch, const StepBatches& step, std::span<const float> hidden, std::span<float> dhidden) {
    rows_.collect(batch, step.trained_tokens);
    divergences_.resize(rows_.rows.size());
    const ObjectiveOptions& options = context_.options;
    if (context_.teacher == nullptr) {
      collect_stored(batch);
      context_.head.distill(rows_.over(hidden),
                            OutputHead::StoredTeacher{stored_, options.ratio, options.temperature, options.direction},
                            rows_.weights, dhidden, {rows_.log_probs, divergences_});
    } else {
      const std::span<const float> teacher_hidden =
          context_.teacher->forward({.tokens = batch.tokens, .positions = batch.positions, .segments = batch.segments});
      context_.head.distill(
          rows_.over(hidden),
          OutputHead::Teacher{*context_.teacher_head, teacher_hidden, options.ratio, options.temperature, options.direction},
          rows_.weights, dhidden, {rows_.log_probs, divergences_});
    }
    double divergence = 0, nll = 0;
    for (std::size_t i = 0; i < rows_.rows.size(); ++i) {
      divergence += rows_.weights[i] * divergences_[i];
      nll -= rows_.weights[i] * rows_.log_probs[i];
    }
    LossReport report;
    report.loss = options.ratio * divergence + (1 - options.ratio) * nll;
    report.tokens = static_cast<std::int64_t>(rows_.rows.size());
    report.add("kl", divergence);
    report.add("nll", nll);
    return report;
  }

  void collect_stored(const PackedBatch& batch) {
    if (batch.teacher.size() != batch.tokens.size()) {
      fail(ErrorKind::kUsage, "distillation.teacher",
           "no teacher given: name the model to learn from, or learn from data that brings what one says (puna distill-data)");
    }
    stored_.clear();
    for (const std::int32_t row : rows_.rows) stored_.push_back(batch.teacher[static_cast<std::size_t>(row)]);
  }

  ObjectiveContext context_;
  TrainedRows rows_;
  std::vector<double> divergences_;  // [N]
  std::vector<TeacherRow> stored_;   // [N]
};

}  // namespace

std::unique_ptr<Objective> make_distillation(const ObjectiveContext& context) {
  const ObjectiveOptions& options = context.options;
  PUNA_CHECK((context.teacher == nullptr) == (context.teacher_head == nullptr), "distillation", "half a teacher");
  if (context.teacher_head != nullptr && context.teacher_head->vocabulary() != context.head.vocabulary()) {
    fail(ErrorKind::kUsage, "distillation.teacher",
         "the teacher has {} tokens and the student {}: distillation compares them token by token, choose models of one family",
         context.teacher_head->vocabulary(), context.head.vocabulary());
  }
  if (!(options.ratio >= 0 && options.ratio <= 1)) {
    fail(ErrorKind::kUsage, "distillation.ratio", "{} found, expected 0 to 1", options.ratio);
  }
  if (!(options.temperature > 0 && options.temperature <= 1000)) {
    fail(ErrorKind::kUsage, "distillation.temperature", "{} found, expected a number above 0", options.temperature);
  }
  return std::make_unique<Distillation>(context);
}

}  // namespace puna
