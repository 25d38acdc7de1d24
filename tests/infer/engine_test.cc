// SPDX-License-Identifier: Apache-2.0
// The engine: what context it takes, how long prompts go through it, and what it says when they do not fit.
#include "infer/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "base/error.h"
#include "model/tiny_checkpoint.h"

namespace puna {
namespace {

using testing::ElementsAre;
using testing::Pair;

std::string message_of(ErrorKind kind, const EngineOptions& options) {
  try {
    Engine engine(tiny_checkpoint(tiny_config(), Format::kF32), options);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind);
    return error.what();
  }
  return "no error";
}

TEST(Engine, TakesTheModelsContextUpToALimit) {
  ModelConfig config = tiny_config();
  EXPECT_EQ(Engine(tiny_checkpoint(config, Format::kF32), {}).context(), 512);
  config.context = 100000;
  const auto checkpoint = tiny_checkpoint(config, Format::kF32);
  EXPECT_EQ(Engine(checkpoint, {}).context(), 8192);
  EXPECT_EQ(Engine(checkpoint, {.context = 9000}).context(), 9000);
}

TEST(Engine, BatchesAreNoLargerThanTheContext) {
  Engine engine(tiny_checkpoint(tiny_config(), Format::kF32), {.context = 100, .chunk_rows = 512, .logit_rows = 300});
  EXPECT_EQ(engine.model().max_rows(), 100);
  EXPECT_EQ(engine.model().max_logit_rows(), 100);
  EXPECT_EQ(engine.plan().context, 100);
}

TEST(Engine, RefusesOptionsOutOfRange) {
  EXPECT_EQ(message_of(ErrorKind::kUsage, {.context = 513}),
            "[context] 513 positions are more than the 512 that this model was made for: give 512 or less");
  EXPECT_EQ(message_of(ErrorKind::kUsage, {.context = -1}), "[context] -1 is too small: give 0 or more");
  EXPECT_EQ(message_of(ErrorKind::kUsage, {.threads = -1}), "[threads] -1 is too small: give 0 or more");
  EXPECT_EQ(message_of(ErrorKind::kUsage, {.chunk_rows = 0}), "[chunk_rows] 0 is too small: give 1 or more");
  EXPECT_EQ(message_of(ErrorKind::kUsage, {.logit_rows = 0}), "[logit_rows] 0 is too small: give 1 or more");
}

TEST(Engine, TheSizeOfChunksDoesNotShowInTheLogits) {
  const auto checkpoint = tiny_checkpoint(tiny_config(), Format::kQ8_0);
  for (const std::int64_t length : {65, 71, 130, 200}) {
    std::vector<Token> tokens;
    for (std::int64_t i = 0; i < length; ++i) tokens.push_back(Token{static_cast<std::int32_t>(i * 7 % 96)});
    std::vector<std::vector<float>> logits;
    for (const std::int64_t rows : {512, 64, 16}) {
      Engine engine(checkpoint, {.threads = 1, .chunk_rows = rows});
      const auto last = engine.append(engine.cache().add_sequence(), tokens);
      logits.emplace_back(last.begin(), last.end());
    }
    EXPECT_EQ(logits[0], logits[1]) << length;
    EXPECT_EQ(logits[0], logits[2]) << length;
  }
}

TEST(Engine, MakesRoomForSeveralContexts) {
  Engine engine(tiny_checkpoint(tiny_config(), Format::kF32), {.context = 100, .sequences = 3});
  EXPECT_EQ(engine.context(), 100);
  EXPECT_EQ(engine.cache().capacity(), 3 * 128) << "each in whole pages: sequences share none that they write";
}

TEST(Engine, AStepHoldsARowOfEverySequence) {
  const auto checkpoint = tiny_checkpoint(tiny_config(), Format::kF32);
  for (const EngineOptions& options :
       {EngineOptions{.threads = 1, .context = 5, .sequences = 6, .logit_rows = 6},
        EngineOptions{.threads = 1, .context = 64, .sequences = 6, .chunk_rows = 4, .logit_rows = 6}}) {
    Engine engine(checkpoint, options);
    EXPECT_EQ(engine.model().max_rows(), 6);
    EXPECT_EQ(engine.model().max_logit_rows(), 6);
  }
}

TEST(Engine, RefusesWhatMemoryCannotHold) {
  ModelConfig config = tiny_config();
  config.context = 1LL << 30;
  try {
    Engine engine(tiny_checkpoint(config, Format::kF32), {.context = 1LL << 30});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kNoRoom);
  }
}

TEST(Engine, AppendsInChunksAndReportsThem) {
  const auto checkpoint = tiny_checkpoint(tiny_config(), Format::kF32);
  Engine chunked(checkpoint, {.threads = 2, .kv_format = Format::kF32, .chunk_rows = 4});
  Engine whole(checkpoint, {.threads = 2, .kv_format = Format::kF32});
  const std::vector<Token> tokens = random_tokens(10, 96);
  std::vector<std::pair<std::int64_t, std::int64_t>> seen;
  const int sequence = chunked.cache().add_sequence();
  const std::span<const float> found = chunked.append(sequence, tokens, [&](std::int64_t done, std::int64_t total) {
    seen.emplace_back(done, total);
    return true;
  });
  EXPECT_THAT(seen, ElementsAre(Pair(4, 10), Pair(8, 10), Pair(10, 10)));
  const std::span<const float> expected = whole.append(whole.cache().add_sequence(), tokens);
  ASSERT_EQ(found.size(), 96u);
  ASSERT_EQ(expected.size(), 96u);
  for (std::size_t v = 0; v < 96; ++v) EXPECT_NEAR(found[v], expected[v], 1e-4);
}

TEST(Engine, StopsBetweenChunksWhereProgressSaysSo) {
  Engine engine(tiny_checkpoint(tiny_config(), Format::kF32), {.threads = 1, .chunk_rows = 4});
  const int sequence = engine.cache().add_sequence();
  EXPECT_TRUE(engine.append(sequence, random_tokens(10, 96), [](std::int64_t done, std::int64_t) { return done < 8; }).empty());
  EXPECT_EQ(engine.cache().length(sequence), 8);
}

TEST(Engine, NamesBothFiguresWhereTokensDoNotFit) {
  Engine engine(tiny_checkpoint(tiny_config(), Format::kF32), {.threads = 1, .context = 20});
  const int sequence = engine.cache().add_sequence();
  engine.append(sequence, random_tokens(15, 96));
  try {
    engine.append(sequence, random_tokens(6, 96));
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kNoRoom);
    EXPECT_STREQ(error.what(),
                 "[context] the prompt has 6 tokens and 15 are cached, the context holds 20: give --context 21 or more "
                 "(the model allows 512)");
  }
  EXPECT_EQ(engine.cache().length(sequence), 15);
}

TEST(Engine, RunsOverRanksOfTheCpu) {
  const auto checkpoint = tiny_checkpoint(tiny_config(), Format::kF32);
  const std::vector<Token> tokens = random_tokens(100, 96);
  Engine one(checkpoint, {.threads = 2, .kv_format = Format::kF32, .chunk_rows = 32});
  Engine two(checkpoint, {.threads = 5, .kv_format = Format::kF32, .chunk_rows = 32, .devices = {.cpu_ranks = 2}});
  EXPECT_EQ(one.ranks(), 1);
  EXPECT_EQ(one.sums(), "");
  EXPECT_EQ(two.ranks(), 2);
  EXPECT_EQ(two.threads(), 4) << "as many for each";
  EXPECT_EQ(two.device(), "cpu");
  EXPECT_EQ(two.sums(), "the host's memory");
  EXPECT_EQ(two.cache().capacity(), one.cache().capacity());
  EXPECT_EQ(two.plan().kv, one.plan().kv) << "each rank has half";
  EXPECT_EQ(two.plan().weights - one.plan().weights, 2 * 4 * 256 * (256 + 512)) << "columns are copied";
  EXPECT_GT(two.plan().activations, one.plan().activations);

  const std::span<const float> expected = one.append(one.cache().add_sequence(), tokens);
  const std::span<const float> found = two.append(two.cache().add_sequence(), tokens);
  ASSERT_EQ(found.size(), expected.size());
  double largest = 0;
  for (const float logit : expected) largest = std::max(largest, std::fabs(static_cast<double>(logit)));
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(found[i], expected[i], 1e-5 * largest);
}

// The same answer bit for bit, from chunks that go through the stages in two pieces.
TEST(Engine, RunsInStagesOfTheCpu) {
  ModelConfig config = tiny_config();
  config.layers = 3;
  const auto checkpoint = tiny_checkpoint(config, Format::kQ8_0);
  const std::vector<Token> tokens = random_tokens(470, 96);
  Engine one(checkpoint, {.threads = 2, .chunk_rows = 300}), two(checkpoint, {.threads = 2, .devices = {.cpu_ranks = 2}});
  Engine three(checkpoint, {.threads = 4, .chunk_rows = 300, .devices = {.cpu_ranks = 3, .stages = 3}});
  Engine both(checkpoint, {.threads = 4, .devices = {.cpu_ranks = 4, .stages = 2}});
  EXPECT_EQ(one.stages(), 1);
  EXPECT_EQ(three.stages(), 3);
  EXPECT_EQ(three.ranks(), 1);
  EXPECT_EQ(three.sums(), "");
  EXPECT_EQ(three.threads(), 3) << "as many for each";
  EXPECT_EQ(both.ranks(), 2);
  EXPECT_EQ(both.sums(), "the host's memory");
  EXPECT_EQ(three.plan().weights, one.plan().weights);
  EXPECT_EQ(three.plan().kv, one.plan().kv) << "a layer's lie with it";
  EXPECT_EQ(three.plan().logits, one.plan().logits) << "the last stage's";
  EXPECT_GT(three.plan().activations, 2 * one.plan().activations);

  const auto logits = [&](Engine& engine) {
    const std::span<const float> last = engine.append(engine.cache().add_sequence(), tokens);
    return std::vector<float>(last.begin(), last.end());
  };
  EXPECT_EQ(logits(three), logits(one));
  EXPECT_EQ(logits(both), logits(two));
}

TEST(Engine, StagesShareTheDevicesEqually) {
  EXPECT_EQ(message_of(ErrorKind::kUsage, {.devices = {.cpu_ranks = 3, .stages = 2}}),
            "[--pipeline] 2 stages cannot share 3 devices equally: give as many with --device, or a multiple");
  EXPECT_THAT(message_of(ErrorKind::kUsage, {.devices = {.stages = 2}}),
              testing::HasSubstr("2 stages cannot share 1 device equally"));
  EXPECT_EQ(message_of(ErrorKind::kUsage, {.devices = {.stages = 0}}), "[--pipeline] 0 is too small: give 1 or more");
  EXPECT_THAT(message_of(ErrorKind::kUnsupported, {.devices = {.cpu_ranks = 3, .stages = 3}}),
              testing::HasSubstr("2 layers do not divide into 3 stages: give --pipeline 2 or less"));
}

TEST(Engine, WhatDoesNotRunOverRanksIsRefused) {
  EXPECT_THAT(message_of(ErrorKind::kUnsupported, {.devices = {.cpu_ranks = 4}}),
              testing::HasSubstr("do not split over 4 devices: use 1 or 2"));
}

}  // namespace
}  // namespace puna
