// SPDX-License-Identifier: Apache-2.0
// Adapters chosen per request: each answer is that of the model they were folded into, whoever is answered beside it, and nobody
// takes over what was read with others.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "expect_error.h"
#include "infer/generate.h"
#include "infer/scheduler.h"
#include "model/adapter_fixture.h"
#include "model/tiny_checkpoint.h"

namespace puna {
namespace {

using Adapters = std::shared_ptr<const AdapterSet>;

struct Models {
  explicit Models(Format format)
      : base(tiny_checkpoint(tiny_config(), format)),
        a(random_adapters(tiny_config(), 4, 11)),
        b(random_adapters(tiny_config(), 16, 12, {WeightRole::kQuery, WeightRole::kValue, WeightRole::kDown})) {}
  EngineOptions options(int sequences = 7) const {
    return {.threads = 2,
            .kv_format = Format::kF32,
            .context = 512,
            .sequences = sequences,
            .chunk_rows = 64,
            .logit_rows = 7,
            .adapters = {a, b}};
  }
  std::shared_ptr<const Checkpoint> base;
  Adapters a, b;
};

GenerateOptions greedy(std::int64_t most, Adapters adapters) {
  GenerateOptions options;
  options.sampler.temperature = 0;
  options.max_tokens = most;
  options.top_logprobs = 0;
  options.adapters = std::move(adapters);
  return options;
}

void expect_same_as_alone(const Generation& got, const Generation& want) {
  EXPECT_EQ(got.tokens, want.tokens);
  ASSERT_EQ(got.logprobs.size(), want.logprobs.size());
  for (std::size_t i = 0; i < want.logprobs.size(); ++i) EXPECT_EQ(got.logprobs[i].logprob, want.logprobs[i].logprob) << i;
}

class RequestAdapters : public testing::TestWithParam<Format> {};

TEST_P(RequestAdapters, AnswersAreTheSameInAnyCompany) {
  const Models models(GetParam());
  const std::vector<Adapters> choices{nullptr, models.a, models.b, models.a, nullptr, models.b, models.b, models.a};
  Engine engine(models.base, models.options());
  Scheduler scheduler(engine, {.most_running = 7, .rows_beside = 32});
  std::map<std::size_t, Generation> answers;
  const auto prompt = [&](std::size_t i) { return random_tokens(5 + 37 * static_cast<std::int64_t>(i), 96, i / 3); };
  for (std::size_t i = 0; i < choices.size(); ++i) {
    scheduler.add(prompt(i), greedy(20, choices[i]),
                  {.text = {}, .done = [&, i](const Generation& generation) { answers[i] = generation; }, .failed = {}});
  }
  while (scheduler.step()) {
  }
  ASSERT_EQ(answers.size(), choices.size());
  for (std::size_t i = 0; i < choices.size(); ++i) {
    SCOPED_TRACE(i);
    Engine alone(models.base, models.options(1));
    expect_same_as_alone(answers.at(i), Session(alone).generate(prompt(i), greedy(20, choices[i])));
  }
}
INSTANTIATE_TEST_SUITE_P(Formats, RequestAdapters, testing::Values(Format::kF32, Format::kQ8_0));

class RequestAdaptersOver : public testing::TestWithParam<DeviceChoice> {};

TEST_P(RequestAdaptersOver, AnswerAsTheModelTheyAreFoldedInto) {
  const Models models(Format::kF32);
  const std::vector<Token> prompt = random_tokens(70, 96);
  EngineOptions engine_options = models.options(1);
  engine_options.devices = GetParam();
  Engine engine(models.base, engine_options);
  Session session(engine);
  std::vector<Generation> answers;
  for (const Adapters& adapters : {models.a, models.b, Adapters()}) {  // one session: what it has read with others is no use
    const Generation got = session.generate(prompt, greedy(20, adapters));
    EXPECT_EQ(got.cached_tokens, 0);
    const auto folded = adapters ? with_adapters_folded_in(*models.base, *adapters) : models.base;
    EngineOptions options = models.options(1);
    options.adapters = {};
    Engine alone(folded, options);
    const Generation want = Session(alone).generate(prompt, greedy(20, nullptr));
    EXPECT_EQ(got.tokens, want.tokens);
    for (std::size_t i = 0; i < want.logprobs.size(); ++i) EXPECT_NEAR(got.logprobs[i].logprob, want.logprobs[i].logprob, 1e-3);
    answers.push_back(got);
  }
  EXPECT_NE(answers[0].tokens, answers[1].tokens) << "the adapters change nothing: the test would not see them mixed up";
  EXPECT_NE(answers[0].tokens, answers[2].tokens);
  EXPECT_NE(answers[1].tokens, answers[2].tokens);
}

INSTANTIATE_TEST_SUITE_P(Devices, RequestAdaptersOver,
                         testing::Values(DeviceChoice{}, DeviceChoice{.cpu_ranks = 2}, DeviceChoice{.cpu_ranks = 2, .stages = 2},
                                         DeviceChoice{.cpu_ranks = 4, .stages = 2}));

// Batches of 300 rows go through the stages in two pieces, which cut what has adapters.
TEST(RequestAdapters, OverStagesHaveTheBitsOfOne) {
  const Models models(Format::kQ8_0);
  const std::vector<Adapters> choices{models.a, nullptr, models.b, models.b, models.a};
  const auto answers = [&](int stages) {
    EngineOptions options = models.options();
    options.chunk_rows = 300;
    options.devices = {.cpu_ranks = stages, .stages = stages};
    Engine engine(models.base, options);
    Scheduler scheduler(engine, {.most_running = 7, .rows_beside = 300});
    std::map<std::size_t, Generation> found;
    for (std::size_t i = 0; i < choices.size(); ++i) {
      scheduler.add(random_tokens(90 + 31 * static_cast<std::int64_t>(i), 96, i), greedy(12, choices[i]),
                    {.text = {}, .done = [&, i](const Generation& generation) { found[i] = generation; }, .failed = {}});
    }
    while (scheduler.step()) {
    }
    return found;
  };
  const auto expected = answers(1), found = answers(2);
  ASSERT_EQ(found.size(), choices.size());
  for (const auto& [i, generation] : found) {
    SCOPED_TRACE(i);
    expect_same_as_alone(generation, expected.at(i));
  }
}

TEST(RequestAdapters, BeginningsAreSharedByThoseWithTheSame) {
  const Models models(Format::kF32);
  Engine engine(models.base, models.options());
  Scheduler scheduler(engine, {.most_running = 7});
  const std::vector<Token> prompt = random_tokens(200, 96);
  std::vector<std::int64_t> cached;
  for (const Adapters& adapters : {models.a, models.b, Adapters(), models.a, models.b, Adapters()}) {
    scheduler.add(
        prompt, greedy(3, adapters),
        {.text = {}, .done = [&](const Generation& generation) { cached.push_back(generation.cached_tokens); }, .failed = {}});
    while (scheduler.step()) {
    }
  }
  EXPECT_THAT(cached, testing::ElementsAre(0, 0, 0, 192, 192, 192));
}

TEST(RequestAdapters, AreChosenForTextsThatAreReadToo) {
  const Models models(Format::kF32);
  const std::vector<Token> text = random_tokens(80, 96);
  Engine engine(models.base, models.options());
  Scheduler scheduler(engine, {.most_running = 7});
  std::vector<float> state;
  std::vector<SampledToken> scores;
  scheduler.add_embedding({.tokens = text, .adapters = models.a},
                          {.done = [&](std::vector<float> got) { state = std::move(got); }});
  scheduler.add_embedding({.tokens = text, .adapters = models.b}, {});
  scheduler.add_score({.tokens = text, .adapters = models.b},
                      {.done = [&](std::vector<SampledToken> got) { scores = std::move(got); }});
  while (scheduler.step()) {
  }
  EngineOptions options = models.options();
  options.adapters = {};
  Engine folded_a(with_adapters_folded_in(*models.base, *models.a), options),
      folded_b(with_adapters_folded_in(*models.base, *models.b), options);
  Scheduler of_a(folded_a, {.most_running = 1}), of_b(folded_b, {.most_running = 1});
  of_a.add_embedding({.tokens = text}, {.done = [&](std::vector<float> want) {
                       ASSERT_EQ(state.size(), want.size());
                       for (std::size_t d = 0; d < want.size(); ++d) EXPECT_NEAR(state[d], want[d], 1e-4);
                     }});
  of_b.add_score({.tokens = text}, {.done = [&](std::vector<SampledToken> want) {
                   ASSERT_EQ(scores.size(), want.size());
                   for (std::size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(scores[i].logprob, want[i].logprob, 1e-3);
                 }});
  while (of_a.step() || of_b.step()) {
  }
}

TEST(RequestAdapters, AreRefusedWhereTheEngineHasNotLoadedThem) {
  const Models models(Format::kF32);
  EngineOptions options = models.options();
  options.adapters = {models.a};
  Engine engine(models.base, options);
  Scheduler scheduler(engine, {.most_running = 7});
  expect_error(ErrorKind::kUsage, "[adapters] adapter 12 was not loaded with this model",
               [&] { scheduler.add({Token{1}}, greedy(1, models.b), {}); });
  expect_error(ErrorKind::kUsage, "adapter 12 was not loaded",
               [&] { Session(engine).generate(random_tokens(3, 96), greedy(1, models.b)); });
  EXPECT_FALSE(scheduler.step());
}

TEST(RequestAdapters, CountInTheMemoryPlan) {
  const Models models(Format::kF32);
  EngineOptions options = models.options();
  const MemoryPlan with = Engine(models.base, options).plan();
  options.adapters = {};
  const MemoryPlan without = Engine(models.base, options).plan();
  EXPECT_EQ(with.weights - without.weights, models.a->bytes + models.b->bytes);
  EXPECT_GE(with.activations - without.activations, 64 * 16 * 7 * 4);
}

}  // namespace
}  // namespace puna
