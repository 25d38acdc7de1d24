// SPDX-License-Identifier: Apache-2.0
// What is trained on at once: a document or conversation with its trained tokens marked, or a prompt with several answers.
#pragma once

#include <cstdint>
#include <vector>

#include "text/token.h"

namespace puna {

class TeacherShard;

// One of the answers to an example's prompt.
struct AnswerTokens {
  std::vector<Token> tokens;  // [n], n > 0
  std::vector<bool> counted;  // [n] in log-probabilities; format tokens are not
  int rank = 0;               // 0 is the best; equal answers have one rank
};

struct Example {
  std::vector<Token> tokens;          // [n] the whole; with answers: the prompt, up to and with the header of the answer
  std::vector<bool> trained;          // [n] empty with answers; the first token is never predicted, so never trained
  std::vector<AnswerTokens> answers;  // best first, in one row as they stand in it; or none
  bool one_row = false;               // answers stand behind each other and see those before; else each sees the prompt alone
  bool splittable = false;            // a document that may continue in the next sequence
  std::int64_t index = 0;             // Loader::where() tells its file and line

  // Where the data brings what a teacher says of the trained tokens (DataOptions::teacher_vocabulary): the shard, which the loader
  // holds, and the place of the first row.
  const TeacherShard* teacher = nullptr;
  std::int64_t teacher_offset = 0;

  // Rows of a packed batch. A token is a row when it predicts another; behind a prompt, each answer has one row for the prompt's
  // last token and one for each of its own (a reward is read from the last). In one row, every token is a row once.
  std::int64_t rows() const;
  // Rows that the longest sequence in it sees: the prompt with its longest answer, in one row with all of them.
  std::int64_t longest() const;
  std::int64_t trained_tokens() const;

  // Lays the answers into one row, in an order that is a function of the seed and the example's index.
  void join_answers(std::uint64_t seed);
};

}  // namespace puna
