// SPDX-License-Identifier: Apache-2.0
// Scores against the double-precision network of tests/model, and perplexity and divergence against their definitions written out.
#include "infer/score.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "base/error.h"
#include "infer/scripted_model.h"
#include "model/llama_oracle.h"
#include "model/tiny_checkpoint.h"

namespace puna {
namespace {

using Row = LlamaOracle::Row;

EngineOptions exact(std::int64_t logit_rows = 16) {
  return {.threads = 2, .kv_format = Format::kF32, .context = 128, .chunk_rows = 24, .logit_rows = logit_rows};
}

Row log_softmax(const Row& logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const double logit : logits) sum += std::exp(logit - largest);
  Row result;
  for (const double logit : logits) result.push_back(logit - largest - std::log(sum));
  return result;
}

// Log-probabilities [T][V] behind every position.
std::vector<Row> log_probabilities(const Checkpoint& checkpoint, std::span<const Token> tokens) {
  std::vector<Row> rows = LlamaOracle(checkpoint, false).logits(tokens);
  for (Row& row : rows) row = log_softmax(row);
  return rows;
}

template <typename Action>
std::string score_message(ErrorKind kind, Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind);
    return error.what();
  }
  return "no error";
}

TEST(ScoreTokens, AreThoseOfTheDoublePrecisionNetwork) {
  const auto checkpoint = tiny_checkpoint(tiny_config(), Format::kF32);
  const std::vector<Token> tokens = random_tokens(50, 96);
  const std::vector<Row> expected = log_probabilities(*checkpoint, tokens);
  for (const std::int64_t logit_rows : {1, 7, 24}) {
    Engine engine(checkpoint, exact(logit_rows));
    const std::vector<double> scores = score_tokens(engine, tokens);
    ASSERT_EQ(scores.size(), 50u);
    EXPECT_TRUE(std::isnan(scores[0]));
    for (std::size_t t = 1; t < 50; ++t)
      EXPECT_NEAR(scores[t], expected[t - 1][static_cast<std::size_t>(id(tokens[t]))], 2e-4) << t;
  }
}

TEST(ScoreTokens, ShowEveryPositionsLogits) {
  const auto checkpoint = tiny_checkpoint(tiny_config(), Format::kF32);
  const std::vector<Token> tokens = random_tokens(20, 96);
  const std::vector<Row> expected = LlamaOracle(*checkpoint, false).logits(tokens);
  Engine engine(checkpoint, exact());
  std::int64_t next = 0;
  score_tokens(engine, tokens, [&](std::int64_t position, std::span<const float> logits) {
    EXPECT_EQ(position, next++);
    ASSERT_EQ(logits.size(), 96u);
    for (std::size_t v = 0; v < 96; ++v) EXPECT_NEAR(logits[v], expected[static_cast<std::size_t>(position)][v], 3e-4);
  });
  EXPECT_EQ(next, 20);
}

TEST(ScoreTokens, LeaveTheCacheAsItWas) {
  Engine engine(tiny_checkpoint(tiny_config(), Format::kF32), exact());
  for (int i = 0; i < 5; ++i) score_tokens(engine, random_tokens(100, 96));  // two pages each, of the two there are
  EXPECT_EQ(score_tokens(engine, random_tokens(1, 96)).size(), 1u);
}

TEST(ScoreTokens, RefuseWhatCannotBeScored) {
  Engine engine(tiny_checkpoint(tiny_config(), Format::kF32), exact());
  EXPECT_EQ(score_message(ErrorKind::kUsage, [&] { score_tokens(engine, {}); }),
            "[score] there are no tokens to score: give at least one");
  EXPECT_EQ(score_message(ErrorKind::kNoRoom, [&] { score_tokens(engine, random_tokens(129, 96)); }),
            "[context] 129 tokens are to be scored at once, the context holds 128: give --context 129 or more, or less text");
  EXPECT_EQ(score_message(ErrorKind::kBadInput,
                          [&] {
                            score_tokens(engine, std::vector<Token>{Token{1}, Token{96}});
                          }),
            "[score] token 96 is outside the vocabulary: ids are 0 to 95");
}

// The negative log-probabilities that perplexity() is to score: windows of `window`, predictions behind positions `from` and later.
std::vector<double> expected_nll(const Checkpoint& checkpoint, std::span<const Token> tokens, std::size_t window,
                                 std::size_t from) {
  std::vector<double> nll;
  for (std::size_t begin = 0; begin + window <= tokens.size(); begin += window) {
    const std::span<const Token> part = tokens.subspan(begin, window);
    const std::vector<Row> rows = log_probabilities(checkpoint, part);
    for (std::size_t t = from; t + 1 < window; ++t) nll.push_back(-rows[t][static_cast<std::size_t>(id(part[t + 1]))]);
  }
  return nll;
}

TEST(Perplexity, FollowsItsDefinition) {
  const auto checkpoint = tiny_checkpoint(tiny_config(), Format::kF32);
  const std::vector<Token> tokens = random_tokens(75, 96);  // three windows of 22 and a rest that is dropped
  Engine engine(checkpoint, exact(5));
  for (const std::int64_t from : {-1, 0, 20}) {
    const std::vector<double> nll = expected_nll(*checkpoint, tokens, 22, static_cast<std::size_t>(from < 0 ? 11 : from));
    double mean = 0, variance = 0;
    for (const double value : nll) mean += value / static_cast<double>(nll.size());
    for (const double value : nll) variance += (value - mean) * (value - mean) / static_cast<double>(nll.size());
    const Perplexity found = perplexity(engine, tokens, {.window = 22, .scored_from = from});
    EXPECT_EQ(found.tokens, static_cast<std::int64_t>(nll.size()));
    EXPECT_EQ(found.tokens, from < 0 ? 30 : from == 0 ? 63 : 3);
    EXPECT_NEAR(found.mean_nll, mean, 1e-4);
    EXPECT_NEAR(found.value / std::exp(mean), 1, 1e-4);
    EXPECT_NEAR(found.standard_error / (std::exp(mean) * std::sqrt(variance / static_cast<double>(nll.size() - 1))), 1, 1e-3);
  }
}

TEST(Perplexity, ReportsAfterEachWindowAndStopsAtTheGivenNumber) {
  Engine engine(tiny_checkpoint(tiny_config(), Format::kF32), exact());
  std::vector<std::int64_t> done;
  double last = 0;
  const Perplexity found = perplexity(engine, random_tokens(100, 96), {.window = 20, .max_windows = 3},
                                      [&](std::int64_t d, std::int64_t total, double so_far) {
                                        done.push_back(d);
                                        EXPECT_EQ(total, 3);
                                        last = so_far;
                                      });
  EXPECT_THAT(done, testing::ElementsAre(1, 2, 3));
  EXPECT_EQ(last, found.value);
  EXPECT_EQ(found.tokens, 3 * 9);
}

TEST(Perplexity, EachWindowStartsWithTheBeginToken) {
  // After <bos> the scripted network expects token 1: the window's own first token must not be seen.
  Engine engine(scripted_checkpoint({"<bos>", "a", "b", "c", "d"}), exact());
  const std::vector<Token> tokens{Token{3}, Token{1}, Token{2}, Token{3}, Token{1}, Token{2}};
  const Perplexity found = perplexity(engine, tokens, {.window = 3, .scored_from = 0});
  EXPECT_EQ(found.tokens, 4);
  EXPECT_LT(found.value, 1.01);
}

TEST(Perplexity, RefusesWindowsThatCannotBe) {
  Engine engine(tiny_checkpoint(tiny_config(), Format::kF32), exact());
  const std::vector<Token> tokens = random_tokens(200, 96);
  const auto message = [&](ErrorKind kind, const PerplexityOptions& options, std::size_t count) {
    return score_message(kind, [&] { perplexity(engine, std::span(tokens).first(count), options); });
  };
  EXPECT_EQ(message(ErrorKind::kUsage, {.window = 1}, 200), "[window] 1 is too small: give 2 tokens or more");
  EXPECT_EQ(message(ErrorKind::kUsage, {.window = 50}, 49),
            "[window] the text has 49 tokens, less than one window of 50: give a longer text or a smaller window");
  EXPECT_EQ(message(ErrorKind::kUsage, {.window = 50, .scored_from = 49}, 200),
            "[scored_from] 49 is outside a window of 50 tokens: give 0 to 48, or -1 for the second half");
  EXPECT_EQ(message(ErrorKind::kUsage, {.window = 50, .max_windows = 0}, 200),
            "[max_windows] 0 is outside the range: give 1 or more, or -1 for all");
  EXPECT_EQ(message(ErrorKind::kNoRoom, {.window = 129}, 200),
            "[context] 129 tokens are to be scored at once, the context holds 128: give --context 129 or more, or less text");
}

TEST(Divergence, OfAModelFromItselfIsNothing) {
  const auto checkpoint = tiny_checkpoint(tiny_config(), Format::kQ8_0);
  Engine base(checkpoint, exact()), other(checkpoint, exact());
  const Divergence found = divergence(base, other, random_tokens(60, 96), {.window = 30});
  EXPECT_LT(found.max_kl, 1e-12);
  EXPECT_EQ(found.same_top, 1);
  EXPECT_EQ(found.base.value, found.other.value);
  EXPECT_EQ(found.base.tokens, 2 * 14);
}

TEST(Divergence, FollowsItsDefinition) {
  const auto one = tiny_checkpoint(tiny_config(), Format::kF32, 1), two = tiny_checkpoint(tiny_config(), Format::kBF16, 1);
  const std::vector<Token> tokens = random_tokens(60, 96);
  Engine base(one, exact(16)), other(two, exact(5));
  const Divergence found = divergence(base, other, tokens, {.window = 30, .scored_from = 0});

  std::vector<double> kl;
  double same = 0;
  for (std::size_t begin = 0; begin < 60; begin += 30) {
    const std::span<const Token> part = std::span(tokens).subspan(begin, 30);
    const std::vector<Row> p = log_probabilities(*one, part), q = log_probabilities(*two, part);
    for (std::size_t t = 0; t + 1 < 30; ++t) {
      double sum = 0;
      for (std::size_t v = 0; v < 96; ++v) sum += std::exp(p[t][v]) * (p[t][v] - q[t][v]);
      kl.push_back(sum);
      const auto top = [&](const Row& row) { return std::max_element(row.begin(), row.end()) - row.begin(); };
      same += top(p[t]) == top(q[t]) ? 1 : 0;
    }
  }
  std::sort(kl.begin(), kl.end());
  ASSERT_EQ(kl.size(), 58u);
  double mean = 0;
  for (const double value : kl) mean += value / 58;
  EXPECT_NEAR(found.mean_kl / mean, 1, 0.02);
  EXPECT_NEAR(found.median_kl / kl[28], 1, 0.02);  // 29 of 58 do not exceed it
  EXPECT_NEAR(found.p99_kl / kl[57], 1, 0.02);     // 57 of 58 would be 98.3 %
  EXPECT_NEAR(found.max_kl / kl[57], 1, 0.02);
  EXPECT_NEAR(found.same_top, same / 58, 1e-9);
  EXPECT_NEAR(found.base.value / perplexity(base, tokens, {.window = 30, .scored_from = 0}).value, 1, 1e-6);
  EXPECT_NEAR(found.other.value / perplexity(other, tokens, {.window = 30, .scored_from = 0}).value, 1, 1e-6);
}

TEST(Divergence, NeedsOneVocabulary) {
  ModelConfig wider = tiny_config();
  wider.vocabulary = 100;
  Engine base(tiny_checkpoint(tiny_config(), Format::kF32), exact()), other(tiny_checkpoint(wider, Format::kF32), exact());
  EXPECT_EQ(score_message(ErrorKind::kUsage, [&] { divergence(base, other, random_tokens(60, 96), {.window = 30}); }),
            "[divergence] the vocabularies have 96 and 100 tokens: give two forms of one model");
}

}  // namespace
}  // namespace puna
