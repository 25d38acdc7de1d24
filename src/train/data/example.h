// SPDX-License-Identifier: Apache-2.0
// What is trained on at once: a document or conversation with its trained tokens marked, or a prompt with several answers.
#pragma once

#include <cstdint>
#include <vector>

#include "text/token.h"

namespace puna {

// One of the answers to an example's prompt.
struct AnswerTokens {
  std::vector<Token> tokens;  // [n], n > 0
  std::vector<bool> counted;  // [n] in log-probabilities; format tokens are not
  int rank = 0;               // 0 is the best
};

struct Example {
  std::vector<Token> tokens;          // [n] the whole; with answers: the prompt, up to and with the header of the answer
  std::vector<bool> trained;          // [n] empty with answers; the first token is never predicted, so never trained
  std::vector<AnswerTokens> answers;  // best first, or none
  bool splittable = false;            // a document that may continue in the next sequence
  std::int64_t index = 0;             // Loader::where() tells its file and line

  // Rows of a packed batch. A token is a row when it predicts another; behind a prompt, each answer has one row for the prompt's
  // last token and one for each of its own (a reward is read from the last).
  std::int64_t rows() const;
  // Rows that the longest sequence in it sees: the prompt with its longest answer.
  std::int64_t longest() const;
  std::int64_t trained_tokens() const;
};

}  // namespace puna
