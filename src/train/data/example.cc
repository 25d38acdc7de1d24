// SPDX-License-Identifier: Apache-2.0
#include "train/data/example.h"

#include <algorithm>
#include <utility>

#include "train/data/shuffle_order.h"

namespace puna {
namespace {

std::int64_t count(const std::vector<bool>& marks) { return std::count(marks.begin(), marks.end(), true); }

}  // namespace

std::int64_t Example::rows() const {
  const std::int64_t shared = one_row ? 0 : 1;  // the prompt's last token is a row of every answer
  std::int64_t rows = static_cast<std::int64_t>(tokens.size()) - shared;
  for (const AnswerTokens& answer : answers) rows += shared + static_cast<std::int64_t>(answer.tokens.size());
  return rows;
}

std::int64_t Example::longest() const {
  std::int64_t longest = static_cast<std::int64_t>(tokens.size()) - 1;
  if (answers.empty()) return longest;
  if (one_row) return rows();
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

void Example::join_answers(std::uint64_t seed) {
  if (answers.empty()) return;
  const auto count = static_cast<std::int64_t>(answers.size());
  const ShuffleOrder order(count, seed, ~static_cast<std::uint64_t>(index), 0);  // sources count their streams from 0
  std::vector<AnswerTokens> shuffled;
  for (std::int64_t i = 0; i < count; ++i) shuffled.push_back(std::move(answers[static_cast<std::size_t>(order.at(i))]));
  answers = std::move(shuffled);
  one_row = true;
}

}  // namespace puna
