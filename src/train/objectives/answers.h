// SPDX-License-Identifier: Apache-2.0
// What the objectives over preferences share: log-probabilities of answers, and the ordered pairs of a group.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "train/batch.h"
#include "train/output_head.h"

namespace puna {

// The rows of all answers, one answer after the other, and where each one's begin.
struct AnswerRows {
  std::vector<std::int32_t> rows, targets;  // [N]
  std::vector<std::size_t> begin;           // [answers + 1]
};
// counted_only: rows whose weight is not 0. Fills `out`, whose memory is used again.
void collect_answer_rows(const PackedBatch& batch, bool counted_only, AnswerRows& out);

// sum of log p over the counted rows of each answer -> [answers]: what Answer::reference_log_prob takes, with `head` and `hidden`
// of the reference model.
std::vector<double> answer_log_probs(OutputHead& head, const PackedBatch& batch, std::span<const float> hidden);

// Every two answers of one group with different ranks. share = 1 / (pairs of the group × groups of the step): losses are means over
// the pairs of a group, then over groups (Ouyang et al., 2022, eq. 1).
struct AnswerPair {
  std::size_t better, worse;  // of batch.answers
  double share;
};
void collect_pairs(const PackedBatch& batch, std::int64_t step_groups, std::vector<AnswerPair>& out);

}  // namespace puna
