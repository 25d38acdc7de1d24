// SPDX-License-Identifier: Apache-2.0
#include "train/objectives/reward.h"

#include <cmath>

#include "base/error.h"
#include "train/objectives/answers.h"
#include "train/objectives/log_sigmoid.h"

namespace puna {
namespace {

class Reward : public Objective {
 public:
  explicit Reward(Parameters& parameters) : head_(parameters.find(kRewardHead)), width_(parameters.config().width) {}

  LossReport gradient(const PackedBatch& batch, const StepBatches& step, std::span<const float> hidden,
                      std::span<float> dhidden) override {
    const LossReport report = evaluate(batch, step, hidden);
    slopes_.assign(batch.answers.size(), 0);
    for (const AnswerPair& pair : pairs_) {
      const double slope = pair.share * negative_log_sigmoid_slope(rewards_[pair.better] - rewards_[pair.worse]);
      slopes_[pair.better] += slope;
      slopes_[pair.worse] -= slope;
    }
    for (std::size_t a = 0; a < slopes_.size(); ++a) {
      const auto slope = static_cast<float>(slopes_[a]);
      const std::int64_t offset = batch.answers[a].end_row * width_;
      for (std::int64_t d = 0; d < width_; ++d) {
        const auto column = static_cast<std::size_t>(d), at = static_cast<std::size_t>(offset + d);
        head_.gradient[column] += slope * hidden[at];
        dhidden[at] += slope * head_.value[column];
      }
    }
    return report;
  }

  LossReport evaluate(const PackedBatch& batch, const StepBatches& step, std::span<const float> hidden) override {
    collect_pairs(batch, step.groups, pairs_);
    rewards_.clear();
    for (const Answer& answer : batch.answers) rewards_.push_back(reward(answer, hidden));
    LossReport report;
    for (const AnswerPair& pair : pairs_) {
      const double better = rewards_[pair.better], worse = rewards_[pair.worse];
      report.loss += pair.share * negative_log_sigmoid(better - worse);
      report.add("accuracy", pair.share * pair_accuracy(better - worse));
      report.add("margin", pair.share * (better - worse));
      report.add("better", pair.share * better);
      report.add("worse", pair.share * worse);
    }
    for (const Answer& answer : batch.answers) report.tokens += answer.rows;
    return report;
  }

 private:
  double reward(const Answer& answer, std::span<const float> hidden) const {
    const auto rows = static_cast<std::int64_t>(hidden.size()) / width_;
    PUNA_CHECK(answer.end_row >= 0 && answer.end_row < rows, "reward", "the last row of an answer is {} of {}", answer.end_row,
               rows);
    double sum = 0;
    for (std::int64_t d = 0; d < width_; ++d) {
      sum += static_cast<double>(head_.value[static_cast<std::size_t>(d)]) *
             static_cast<double>(hidden[static_cast<std::size_t>(answer.end_row * width_ + d)]);
    }
    return sum;
  }

  Parameter& head_;  // [1, D]
  std::int64_t width_;
  std::vector<AnswerPair> pairs_;
  std::vector<double> rewards_, slopes_;  // of the batch's answers; slopes are of the loss over each reward
};

}  // namespace

std::vector<ExtraParameter> reward_head(const ModelConfig& config) {
  return {{kRewardHead, Shape{1, config.width}, 1 / std::sqrt(static_cast<double>(config.width) + 1), false}};
}

std::unique_ptr<Objective> make_reward(const ObjectiveContext& context) { return std::make_unique<Reward>(context.parameters); }

}  // namespace puna
