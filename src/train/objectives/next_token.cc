// SPDX-License-Identifier: Apache-2.0
#include "train/objectives/next_token.h"

#include "train/objectives/trained_rows.h"

namespace puna {
namespace {

class NextToken : public Objective {
 public:
  explicit NextToken(OutputHead& head) : head_(head) {}

  LossReport gradient(const PackedBatch& batch, const StepBatches& step, std::span<const float> hidden,
                      std::span<float> dhidden) override {
    rows_.collect(batch, step.trained_tokens);
    head_.backward(rows_.over(hidden), rows_.weights, dhidden, rows_.log_probs);
    return report();
  }

  LossReport evaluate(const PackedBatch& batch, const StepBatches& step, std::span<const float> hidden) override {
    rows_.collect(batch, step.trained_tokens);
    head_.log_probs(rows_.over(hidden), rows_.log_probs);
    return report();
  }

 private:
  LossReport report() const {
    LossReport report;
    report.tokens = static_cast<std::int64_t>(rows_.rows.size());
    for (std::size_t i = 0; i < rows_.rows.size(); ++i) report.loss -= rows_.weights[i] * rows_.log_probs[i];
    return report;
  }

  OutputHead& head_;
  TrainedRows rows_;
};

}  // namespace

std::unique_ptr<Objective> make_next_token(const ObjectiveContext& context) { return std::make_unique<NextToken>(context.head); }

}  // namespace puna
