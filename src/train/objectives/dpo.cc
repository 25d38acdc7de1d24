// SPDX-License-Identifier: Apache-2.0
// Two passes over the logits: the slope of a pair is known only when all its rows have been seen.
#include "train/objectives/dpo.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "train/objectives/answers.h"
#include "train/objectives/log_sigmoid.h"

namespace puna {
namespace {

class Dpo : public Objective {
 public:
  Dpo(OutputHead& head, const ObjectiveOptions& options) : head_(head), options_(options) {}

  LossReport gradient(const PackedBatch& batch, const StepBatches& step, std::span<const float> hidden,
                      std::span<float> dhidden) override {
    const LossReport report = evaluate(batch, step, hidden);
    weights_.resize(rows_.rows.size());
    for (std::size_t a = 0; a < sums_.size(); ++a) {
      const Sums& sums = sums_[a];
      for (std::size_t i = rows_.begin[a]; i < rows_.begin[a + 1]; ++i) {
        const bool counted = is_counted(batch, i);
        const double nll = counted || options_.nll_all_rows ? sums.nll_share / std::max<double>(1, sums.nll_rows) : 0;
        weights_[i] = static_cast<float>(nll - (counted ? sums.slope * scale(sums) : 0));
      }
    }
    head_.backward({hidden, rows_.rows, rows_.targets}, weights_, dhidden, log_probs_);
    return report;
  }

  LossReport evaluate(const PackedBatch& batch, const StepBatches& step, std::span<const float> hidden) override {
    collect_answer_rows(batch, !(options_.nll_all_rows && options_.nll_weight > 0), rows_);
    collect_pairs(batch, step.groups, pairs_);
    log_probs_.resize(rows_.rows.size());
    head_.log_probs({hidden, rows_.rows, rows_.targets}, log_probs_);
    sum_answers(batch);
    LossReport report;
    for (const AnswerPair& pair : pairs_) add_pair(pair, report);
    report.tokens = static_cast<std::int64_t>(rows_.rows.size());
    return report;
  }

 private:
  struct Sums {             // of one answer
    double difference = 0;  // d
    double counted = 0;     // rows
    double nll = 0;         // mean of -log p
    double nll_rows = 0;
    double slope = 0;      // of the loss over beta d
    double nll_share = 0;  // of the loss over nll
  };

  bool is_counted(const PackedBatch& batch, std::size_t i) const {
    return batch.weights[static_cast<std::size_t>(rows_.rows[i])] != 0;
  }

  // What an answer's log-probability is multiplied by.
  double scale(const Sums& sums) const {
    return options_.length_normalised ? options_.beta / std::max<double>(1, sums.counted) : options_.beta;
  }

  void sum_answers(const PackedBatch& batch) {
    sums_.assign(batch.answers.size(), {});
    for (std::size_t a = 0; a < sums_.size(); ++a) {
      Sums& sums = sums_[a];
      for (std::size_t i = rows_.begin[a]; i < rows_.begin[a + 1]; ++i) {
        const bool counted = is_counted(batch, i);
        if (counted) sums.difference += log_probs_[i], sums.counted += 1;
        if (counted || options_.nll_all_rows) sums.nll -= log_probs_[i], sums.nll_rows += 1;
      }
      sums.difference -= batch.answers[a].reference_log_prob;
      sums.nll /= std::max<double>(1, sums.nll_rows);
    }
  }

  void add_pair(const AnswerPair& pair, LossReport& report) {
    Sums &better = sums_[pair.better], &worse = sums_[pair.worse];
    const double reward_better = scale(better) * better.difference, reward_worse = scale(worse) * worse.difference;
    const double margin = reward_better - reward_worse;
    const double slope = pair.share * negative_log_sigmoid_slope(margin);
    better.slope += slope;
    worse.slope -= slope;
    better.nll_share += pair.share * options_.nll_weight;
    report.loss += pair.share * (negative_log_sigmoid(margin) + options_.nll_weight * better.nll);
    report.add("accuracy", pair.share * pair_accuracy(margin));
    report.add("margin", pair.share * margin);
    report.add("better", pair.share * reward_better);
    report.add("worse", pair.share * reward_worse);
    report.add("nll", pair.share * better.nll);
  }

  OutputHead& head_;
  ObjectiveOptions options_;
  AnswerRows rows_;
  std::vector<AnswerPair> pairs_;
  std::vector<Sums> sums_;         // of the batch's answers
  std::vector<double> log_probs_;  // [N]
  std::vector<float> weights_;     // [N]
};

}  // namespace

std::unique_ptr<Objective> make_dpo(const ObjectiveContext& context) {
  const ObjectiveOptions& options = context.options;
  if (!(std::isfinite(options.beta) && options.beta > 0)) {
    fail(ErrorKind::kUsage, "dpo.beta", "{} found, expected a number above 0: with 0 the loss stays at ln 2", options.beta);
  }
  if (!(std::isfinite(options.nll_weight) && options.nll_weight >= 0)) {
    fail(ErrorKind::kUsage, "dpo.nll_weight", "{} found, expected 0 or more", options.nll_weight);
  }
  return std::make_unique<Dpo>(context.head, options);
}

}  // namespace puna
