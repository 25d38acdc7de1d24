// SPDX-License-Identifier: Apache-2.0
// All of it is computed by the host, for which the few states that count are brought from the device.
#include "train/objectives/reward.h"

#include <cmath>

#include "base/error.h"
#include "train/objectives/answers.h"
#include "train/objectives/log_sigmoid.h"

namespace puna {
namespace {

class Reward : public Objective {
 public:
  explicit Reward(const ObjectiveContext& context)
      : device_(context.device), head_(context.parameters.find(kRewardHead)), width_(context.parameters.config().width) {}

  LossReport gradient(const PackedBatch& batch, const StepBatches& step, std::span<const float> hidden,
                      std::span<float> dhidden) override {
    const LossReport report = evaluate(batch, step, hidden);
    slopes_.assign(batch.answers.size(), 0);
    for (const AnswerPair& pair : pairs_) {
      const double slope = pair.share * negative_log_sigmoid_slope(rewards_[pair.better] - rewards_[pair.worse]);
      slopes_[pair.better] += slope;
      slopes_[pair.worse] -= slope;
    }
    fetch(head_.gradient, dvalue_);
    for (std::size_t a = 0; a < slopes_.size(); ++a) {
      const auto slope = static_cast<float>(slopes_[a]);
      const std::span<float> dstate_on_device = row(dhidden, batch.answers[a]);
      fetch(dstate_on_device, dstate_);
      for (std::size_t d = 0; d < dstate_.size(); ++d) {
        dvalue_[d] += slope * states_[a * dstate_.size() + d];
        dstate_[d] += slope * value_[d];
      }
      device_.copy_in(dstate_on_device.data(), dstate_.data(), dstate_on_device.size_bytes());
    }
    device_.copy_in(head_.gradient.data(), dvalue_.data(), head_.gradient.size_bytes());
    return report;
  }

  LossReport evaluate(const PackedBatch& batch, const StepBatches& step, std::span<const float> hidden) override {
    collect_pairs(batch, step.groups, pairs_);
    rewards_.clear();
    fetch(head_.value, value_);
    states_.resize(batch.answers.size() * value_.size());
    for (std::size_t a = 0; a < batch.answers.size(); ++a) rewards_.push_back(reward(row(hidden, batch.answers[a]), a));
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
  // The state [D] of an answer's last token, on the device.
  template <typename T>
  std::span<T> row(std::span<T> hidden, const Answer& answer) const {
    const auto rows = static_cast<std::int64_t>(hidden.size()) / width_;
    PUNA_CHECK(answer.end_row >= 0 && answer.end_row < rows, "reward", "the last row of an answer is {} of {}", answer.end_row,
               rows);
    return hidden.subspan(static_cast<std::size_t>(answer.end_row * width_), static_cast<std::size_t>(width_));
  }

  void fetch(std::span<const float> on_device, std::vector<float>& to) const {
    to.resize(on_device.size());
    device_.copy_out(to.data(), on_device.data(), on_device.size_bytes());
  }

  // Of answer `a`, whose state is kept for the gradient.
  double reward(std::span<const float> on_device, std::size_t a) {
    float* const state = states_.data() + a * value_.size();
    device_.copy_out(state, on_device.data(), on_device.size_bytes());
    double sum = 0;
    for (std::size_t d = 0; d < value_.size(); ++d) sum += static_cast<double>(value_[d]) * static_cast<double>(state[d]);
    return sum;
  }

  Device device_;
  Parameter& head_;  // [1, D]
  std::int64_t width_;
  std::vector<AnswerPair> pairs_;
  std::vector<double> rewards_, slopes_;        // of the batch's answers; slopes are of the loss over each reward
  std::vector<float> value_, dvalue_, dstate_;  // [D] the head, its gradient, and that of one state
  std::vector<float> states_;                   // [answers, D]
};

}  // namespace

std::vector<ExtraParameter> reward_head(const ModelConfig& config) {
  return {{kRewardHead, Shape{1, config.width}, 1 / std::sqrt(static_cast<double>(config.width) + 1), false}};
}

std::unique_ptr<Objective> make_reward(const ObjectiveContext& context) { return std::make_unique<Reward>(context); }

}  // namespace puna
