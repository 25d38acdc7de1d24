// SPDX-License-Identifier: Apache-2.0
// What the loader makes and the objectives read: one packed batch of T rows, and the batches of one optimizer step.
// Row t holds tokens[t] and predicts targets[t], the token behind it in its segment.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/packed_attention.h"
#include "text/token.h"

namespace puna {

class TeacherShard;

// One of several answers to the same prompt (preferences, rewards). Its rows are those that predict its tokens: the first is the
// row of the token before it, the prompt's last or, in one row, that of the answer before.
struct Answer {
  std::int64_t first_row = 0, rows = 0;
  std::int64_t end_row = 0;       // the row of its last token, where a reward is read
  std::int64_t group = 0;         // answers of one prompt share it; unique within the step
  int rank = 0;                   // 0 is the best; equal ranks are not compared
  double reference_log_prob = 0;  // sum over its counted rows under the reference model, once it is known
};

// What a teacher says in the place of a row's target, where it lies (train/data/teacher_shard.h): valid as long as the loader.
struct TeacherRow {
  const TeacherShard* shard = nullptr;  // nullptr for rows that are not trained
  std::int64_t offset = 0;
};

struct PackedBatch {
  std::vector<Token> tokens;            // [T]
  std::vector<std::int32_t> positions;  // [T] start at 0 in each document; behind a prefix they go on from it
  std::vector<PackedSegment> segments;
  std::vector<Token> targets;  // [T], read where weights are not 0, and on all rows of answers
  std::vector<float> weights;  // [T] 0: not trained. With answers: counted in their log-probabilities (0: format tokens)
  std::vector<Answer> answers;
  std::vector<TeacherRow> teacher;     // [T], or empty where the data brings none
  std::vector<std::int64_t> examples;  // indices of the examples in here, for reports
};

// The batches of one step. Losses are divided by what the whole step holds, so that splitting it changes nothing.
struct StepBatches {
  std::vector<PackedBatch> batches;
  double trained_tokens = 0;  // sum of weights over all batches
  std::int64_t groups = 0;    // groups of answers over all batches
};

}  // namespace puna
