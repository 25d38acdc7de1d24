// SPDX-License-Identifier: Apache-2.0
#include "train/data/example.h"

#include <algorithm>

namespace puna {
namespace {

std::int64_t count(const std::vector<bool>& marks) { return std::count(marks.begin(), marks.end(), true); }

}  // namespace

std::int64_t Example::rows() const {
  std::int64_t rows = static_cast<std::int64_t>(tokens.size()) - 1;
  for (const AnswerTokens& answer : answers) rows += 1 + static_cast<std::int64_t>(answer.tokens.size());
  return rows;
}

std::int64_t Example::longest() const {
  std::int64_t longest = static_cast<std::int64_t>(tokens.size()) - 1;
  if (answers.empty()) return longest;
  for (const AnswerTokens& answer : answers) {
    longest = std::max(longest, static_cast<std::int64_t>(tokens.size() + answer.tokens.size()));
  }
  return longest;
}

std::int64_t Example::trained_tokens() const {
  std::int64_t tokens_trained = count(trained);
  for (const AnswerTokens& answer : answers) tokens_trained += count(answer.counted);
  return tokens_trained;
}

}  // namespace puna
