// SPDX-License-Identifier: Apache-2.0
#include "train/objectives/answers.h"

#include <algorithm>

#include "base/error.h"

namespace puna {
namespace {

// Two answers of one group of which the first is better.
bool ordered(const Answer& better, const Answer& worse) { return better.group == worse.group && better.rank < worse.rank; }

}  // namespace

void collect_answer_rows(const PackedBatch& batch, bool counted_only, AnswerRows& out) {
  out.rows.clear();
  out.targets.clear();
  out.begin.assign(1, 0);
  const auto rows = static_cast<std::int64_t>(batch.tokens.size());
  for (const Answer& answer : batch.answers) {
    PUNA_CHECK(answer.first_row >= 0 && answer.rows >= 1 && answer.first_row + answer.rows <= rows, "answers",
               "an answer of rows {} to {} in a batch of {}", answer.first_row, answer.first_row + answer.rows, rows);
    for (std::int64_t t = answer.first_row; t < answer.first_row + answer.rows; ++t) {
      const auto row = static_cast<std::size_t>(t);
      if (counted_only && batch.weights[row] == 0) continue;
      out.rows.push_back(static_cast<std::int32_t>(t));
      out.targets.push_back(id(batch.targets[row]));
    }
    out.begin.push_back(out.rows.size());
  }
}

std::vector<double> answer_log_probs(OutputHead& head, const PackedBatch& batch, std::span<const float> hidden) {
  AnswerRows rows;
  collect_answer_rows(batch, true, rows);
  std::vector<double> log_probs(rows.rows.size());
  head.log_probs({hidden, rows.rows, rows.targets}, log_probs);
  std::vector<double> sums;
  for (std::size_t a = 0; a + 1 < rows.begin.size(); ++a) {
    double sum = 0;
    for (std::size_t i = rows.begin[a]; i < rows.begin[a + 1]; ++i) sum += log_probs[i];
    sums.push_back(sum);
  }
  return sums;
}

void collect_pairs(const PackedBatch& batch, std::int64_t step_groups, std::vector<AnswerPair>& out) {
  out.clear();
  PUNA_CHECK(batch.answers.empty() || step_groups > 0, "answers", "a batch with answers in a step of {} groups", step_groups);
  for (std::size_t better = 0; better < batch.answers.size(); ++better) {
    for (std::size_t worse = 0; worse < batch.answers.size(); ++worse) {
      if (ordered(batch.answers[better], batch.answers[worse])) out.push_back({better, worse, 0});
    }
  }
  for (AnswerPair& pair : out) {
    const auto same_group = [&](const AnswerPair& other) {
      return batch.answers[other.better].group == batch.answers[pair.better].group;
    };
    pair.share = 1 / (static_cast<double>(std::ranges::count_if(out, same_group)) * static_cast<double>(step_groups));
  }
}

}  // namespace puna
