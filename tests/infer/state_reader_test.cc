// SPDX-License-Identifier: Apache-2.0
// Embeddings and scores in a scheduler: against the double-precision network of tests/model, against infer/score.h, and bit for bit
// against themselves alone.
#include "infer/state_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "expect_error.h"
#include "infer/generate.h"
#include "infer/scheduler.h"
#include "infer/score.h"
#include "infer/scripted_model.h"
#include "model/llama_oracle.h"
#include "model/tiny_checkpoint.h"

namespace puna {
namespace {

constexpr int kMostRows = 7;

std::shared_ptr<const Checkpoint> random_model(Format format = Format::kF32) {
  static const auto f32 = tiny_checkpoint(tiny_config(), Format::kF32), q8_0 = tiny_checkpoint(tiny_config(), Format::kQ8_0);
  return format == Format::kF32 ? f32 : q8_0;
}

EngineOptions reader_room(std::int64_t logit_rows = kMostRows, std::int64_t context = 512, std::int64_t chunk = 64) {
  return {.threads = 2,
          .kv_format = Format::kF32,
          .context = context,
          .sequences = kMostRows,
          .chunk_rows = chunk,
          .logit_rows = logit_rows};
}

void run(Scheduler& scheduler) {
  for (int steps = 0; scheduler.step(); ++steps) ASSERT_LT(steps, 10000);
}

std::vector<float> embedding_alone(const EmbeddingRequest& request, Format format = Format::kF32, std::int64_t chunk = 64) {
  Engine engine(random_model(format), reader_room(kMostRows, 512, chunk));
  Scheduler scheduler(engine, {.most_running = 1});
  std::vector<float> result;
  scheduler.add_embedding(request, {.done = [&](std::vector<float> state) { result = std::move(state); }});
  run(scheduler);
  return result;
}

std::vector<SampledToken> score_alone(const ScoreRequest& request, Format format = Format::kF32, std::int64_t chunk = 64,
                                      std::int64_t logit_rows = kMostRows) {
  Engine engine(random_model(format), reader_room(logit_rows, 512, chunk));
  Scheduler scheduler(engine, {.most_running = 1});
  std::vector<SampledToken> result;
  scheduler.add_score(request, {.done = [&](std::vector<SampledToken> scores) { result = std::move(scores); }});
  run(scheduler);
  return result;
}

void expect_same(const std::vector<SampledToken>& got, const std::vector<SampledToken>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < want.size(); ++i) {
    EXPECT_EQ(got[i].token, want[i].token);
    EXPECT_EQ(std::bit_cast<std::uint64_t>(got[i].logprob), std::bit_cast<std::uint64_t>(want[i].logprob)) << i;  // NaN too
    EXPECT_EQ(got[i].top, want[i].top) << i;
  }
}

double length_of(const std::vector<float>& state) {
  double squares = 0;
  for (const float value : state) squares += static_cast<double>(value) * static_cast<double>(value);
  return std::sqrt(squares);
}

// The oracle has no states of its own to show: its logits under an output matrix of ones on the diagonal are those states.
TEST(Embedding, IsThePooledStateOfTheDoublePrecisionNetwork) {
  ModelConfig config = tiny_config();
  config.vocabulary = config.width;
  const auto checkpoint = tiny_checkpoint(config, Format::kF32);
  const std::vector<Token> tokens = random_tokens(90, config.vocabulary);
  std::vector<float> ones(static_cast<std::size_t>(config.width * config.width));
  for (std::size_t d = 0; d < static_cast<std::size_t>(config.width); ++d) ones[d * static_cast<std::size_t>(config.width) + d] = 1;
  Checkpoint shown = *checkpoint;
  shown.weights.output.bytes = std::as_bytes(std::span(ones));
  const std::vector<LlamaOracle::Row> states = LlamaOracle(shown, false).logits(tokens);
  for (const Pooling pooling : {Pooling::kMean, Pooling::kLast}) {
    Engine engine(checkpoint, reader_room());
    Scheduler scheduler(engine, {.most_running = 2});
    std::vector<float> plain, normalised;
    scheduler.add_embedding({.tokens = tokens, .pooling = pooling, .normalise = false},
                            {.done = [&](std::vector<float> state) { plain = std::move(state); }});
    scheduler.add_embedding({.tokens = tokens, .pooling = pooling, .normalise = true},
                            {.done = [&](std::vector<float> state) { normalised = std::move(state); }});
    run(scheduler);
    ASSERT_EQ(plain.size(), static_cast<std::size_t>(config.width));
    ASSERT_EQ(normalised.size(), plain.size());
    for (std::size_t d = 0; d < plain.size(); ++d) {
      double want = states.back()[d];
      if (pooling == Pooling::kMean) {
        want = 0;
        for (const LlamaOracle::Row& row : states) want += row[d] / static_cast<double>(states.size());
      }
      EXPECT_NEAR(plain[d], want, 1e-4) << d;
      EXPECT_NEAR(static_cast<double>(normalised[d]), static_cast<double>(plain[d]) / length_of(plain), 1e-6) << d;
    }
  }
}

// After the last token of the tokenizer the network says one of the padding, which is no token.
TEST(Score, PaddingOfTheVocabularyIsNotLookedAt) {
  const auto checkpoint = scripted_checkpoint(std::make_unique<ScriptedTokenizer>(std::vector<std::string>{"a", "b", "c"}), 2);
  Engine engine(checkpoint, reader_room(kMostRows, 64));
  Scheduler scheduler(engine, {.most_running = 1});
  std::vector<SampledToken> scores;
  scheduler.add_score({.tokens = {Token{0}, Token{1}, Token{2}, Token{0}}, .top = 5},
                      {.done = [&](std::vector<SampledToken> got) { scores = std::move(got); }});
  run(scheduler);
  ASSERT_EQ(scores.size(), 3u);
  for (const SampledToken& score : scores) {
    EXPECT_EQ(score.top.size(), 3u);
    double sum = 0;
    for (const auto& [token, logprob] : score.top) {
      EXPECT_LT(id(token), 3);
      sum += std::exp(logprob);
    }
    EXPECT_NEAR(sum, 1, 1e-5);
  }
}

TEST(Score, IsThatOfScoreTokens) {
  const std::vector<Token> tokens = random_tokens(150, 96);
  Engine engine(random_model(), reader_room(24));
  std::vector<std::vector<float>> logits;
  const std::vector<double> want =
      score_tokens(engine, tokens, [&](std::int64_t, std::span<const float> row) { logits.emplace_back(row.begin(), row.end()); });
  for (const std::int64_t from : {0, 1, 2, 63, 64, 65, 66, 100, 149}) {
    const std::vector<SampledToken> got = score_alone({.tokens = tokens, .from = from, .top = 3});
    ASSERT_EQ(got.size(), static_cast<std::size_t>(150 - from));
    for (std::size_t i = 0; i < got.size(); ++i) {
      const std::size_t t = static_cast<std::size_t>(from) + i;
      EXPECT_EQ(got[i].token, tokens[t]);
      if (t == 0) {
        EXPECT_TRUE(std::isnan(got[i].logprob));
        EXPECT_TRUE(got[i].top.empty());
        continue;
      }
      EXPECT_NEAR(got[i].logprob, want[t], 1e-4) << t;
      ASSERT_EQ(got[i].top.size(), 3u);
      const auto best = std::ranges::max_element(logits[t - 1]) - logits[t - 1].begin();
      EXPECT_EQ(id(got[i].top[0].first), best) << t;
      EXPECT_GE(got[i].top[0].second, got[i].top[1].second);
    }
  }
}

class StatesOf : public testing::TestWithParam<Format> {};

TEST_P(StatesOf, AreTheSameInAnyCompanyAndInAnyChunks) {
  Engine engine(random_model(GetParam()), reader_room());
  Scheduler scheduler(engine, {.most_running = kMostRows, .rows_beside = 32});
  const std::vector<std::int64_t> lengths{1, 5, 8, 63, 64, 65, 130, 300, 17, 72, 200};
  std::map<std::size_t, std::vector<float>> states;
  std::map<std::size_t, std::vector<SampledToken>> scores;
  std::map<std::size_t, Generation> answers;
  GenerateOptions options;
  options.sampler.seed = 3;
  options.max_tokens = 30;
  options.top_logprobs = 0;
  const auto tokens_of = [&](std::size_t i) { return random_tokens(lengths[i], 96, i + 1); };
  const auto embedding = [&](std::size_t i) {
    return EmbeddingRequest{.tokens = tokens_of(i), .pooling = i % 2 == 0 ? Pooling::kMean : Pooling::kLast};
  };
  const auto score = [&](std::size_t i) { return ScoreRequest{.tokens = tokens_of(i), .from = lengths[i] / 2, .top = 2}; };
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    scheduler.add_embedding(embedding(i), {.done = [&, i](std::vector<float> state) { states[i] = std::move(state); }});
    scheduler.add(tokens_of(i), options,
                  {.text = {}, .done = [&, i](const Generation& generation) { answers[i] = generation; }, .failed = {}});
    scheduler.add_score(score(i), {.done = [&, i](std::vector<SampledToken> result) { scores[i] = std::move(result); }});
  }
  run(scheduler);
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    SCOPED_TRACE(lengths[i]);
    EXPECT_EQ(states.at(i), embedding_alone(embedding(i), GetParam()));
    EXPECT_EQ(states.at(i), embedding_alone(embedding(i), GetParam(), 24));
    expect_same(scores.at(i), score_alone(score(i), GetParam()));
    expect_same(scores.at(i), score_alone(score(i), GetParam(), 24, 2));
    Engine alone(random_model(GetParam()), reader_room());
    EXPECT_EQ(answers.at(i).tokens, Session(alone).generate(tokens_of(i), options).tokens);
  }
  EXPECT_EQ(scheduler.pages() - scheduler.free_pages(), scheduler.prefixes().size());
}
INSTANTIATE_TEST_SUITE_P(Formats, StatesOf, testing::Values(Format::kF32, Format::kQ8_0));

// Answers to one question are compared: the question is read once.
TEST(Score, TakesKnownBeginningsOver) {
  Engine engine(random_model(), reader_room());
  Scheduler scheduler(engine, {.most_running = kMostRows});
  const std::vector<Token> question = random_tokens(200, 96);
  std::vector<std::int64_t> known;
  std::vector<std::vector<SampledToken>> scores;
  std::vector<ScoreRequest> requests;
  for (std::uint64_t answer = 0; answer < 3; ++answer) {
    ScoreRequest& request = requests.emplace_back(ScoreRequest{.tokens = question, .from = 200});
    const std::vector<Token> rest = random_tokens(20, 96, 50 + answer);
    request.tokens.insert(request.tokens.end(), rest.begin(), rest.end());
    bool first = true;
    scheduler.add_score(request, {.done = [&](std::vector<SampledToken> result) { scores.push_back(std::move(result)); },
                                  .failed = {},
                                  .progress =
                                      [&, first](std::int64_t read, std::int64_t) mutable {
                                        if (std::exchange(first, false)) known.push_back(read);
                                      }});
  }
  run(scheduler);
  EXPECT_THAT(known, testing::ElementsAre(0, 192, 192));
  ASSERT_EQ(scores.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) expect_same(scores[i], score_alone(requests[i]));
}

TEST(StateReaders, LoseTheirPagesAndAreReadAgain) {
  EngineOptions options = reader_room(kMostRows, 256, 32);
  options.sequences = 1;
  Engine engine(random_model(), options);  // four pages
  Scheduler scheduler(engine, {.most_running = kMostRows});
  GenerateOptions writes;
  writes.max_tokens = 120;
  writes.sampler.seed = 1;
  const std::vector<Token> prompt = random_tokens(20, 96), text = random_tokens(100, 96, 9);
  std::vector<float> state;
  scheduler.add(prompt, writes, {.text = {}, .done = [](const Generation&) {}, .failed = {}});
  for (int i = 0; i < 3; ++i)
    scheduler.add(random_tokens(40, 96, 20), writes, {.text = {}, .done = [](const Generation&) {}, .failed = {}});
  scheduler.add_embedding({.tokens = text}, {.done = [&](std::vector<float> result) { state = std::move(result); }});
  run(scheduler);
  EXPECT_GT(scheduler.counters().preemptions, 0);
  EXPECT_EQ(state, embedding_alone({.tokens = text}));
}

TEST(StateReaders, AreCancelledAndSilent) {
  Engine engine(random_model(), reader_room());
  Scheduler scheduler(engine, {.most_running = kMostRows});
  int told = 0;
  Scheduler::Id self = 0;
  const auto embedding = scheduler.add_embedding({.tokens = random_tokens(200, 96)}, {.done = [&](std::vector<float>) { ++told; }});
  scheduler.step();
  scheduler.cancel(embedding);
  self = scheduler.add_score({.tokens = random_tokens(20, 96)},
                             {.done = [&](std::vector<SampledToken>) { ++told; },
                              .failed = {},
                              .progress = [&](std::int64_t, std::int64_t) { scheduler.cancel(self); }});
  run(scheduler);
  EXPECT_EQ(told, 0);
  EXPECT_EQ(scheduler.free_pages(), scheduler.pages() - scheduler.prefixes().size());
}

TEST(StateReaders, RefuseWhatCannotBe) {
  Engine engine(random_model(), reader_room());
  Scheduler scheduler(engine, {.most_running = 1});
  expect_error(ErrorKind::kUsage, "the text has no tokens", [&] { scheduler.add_embedding({}, {}); });
  expect_error(ErrorKind::kUsage, "3 is outside a text of 3 tokens",
               [&] { scheduler.add_score({.tokens = random_tokens(3, 96), .from = 3}, {}); });
  expect_error(ErrorKind::kNoRoom, "513 tokens", [&] { scheduler.add_score({.tokens = random_tokens(513, 96)}, {}); });
  expect_error(ErrorKind::kBadInput, "token 96 is outside the vocabulary", [&] {
    scheduler.add_embedding({.tokens = {Token{1}, Token{96}}}, {});
  });
  expect_error(ErrorKind::kBadInput, "token -1 is outside the vocabulary", [&] { scheduler.add({Token{-1}}, {}, {}); });
}

}  // namespace
}  // namespace puna
