// SPDX-License-Identifier: Apache-2.0
// Many answers at once: that each is what it would be alone, that pages are shared, taken away and given back, and who waits for
// whom.
#include "infer/scheduler.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "expect_error.h"
#include "infer/generate.h"
#include "infer/scripted_model.h"
#include "model/tiny_checkpoint.h"

namespace puna {
namespace {

using testing::ElementsAre;

constexpr int kMost = 7;

std::vector<Token> tokens_of(std::uint64_t seed, std::int64_t count) {
  std::vector<Token> tokens;
  for (std::int64_t i = 0; i < count; ++i)
    tokens.push_back(Token{static_cast<std::int32_t>(random_bits(seed, 4, static_cast<std::uint64_t>(i)) % 96)});
  return tokens;
}

std::vector<Token> joined(std::vector<Token> first, const std::vector<Token>& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

GenerateOptions sampled(std::int64_t most, std::uint64_t seed) {
  GenerateOptions options;
  options.sampler.temperature = 1;
  options.sampler.seed = seed;
  options.max_tokens = most;
  options.top_logprobs = 0;
  return options;
}

std::shared_ptr<const Checkpoint> scheduled_model(Format format) {
  static const auto f32 = tiny_checkpoint(tiny_config(), Format::kF32), q8_0 = tiny_checkpoint(tiny_config(), Format::kQ8_0);
  return format == Format::kF32 ? f32 : q8_0;
}

EngineOptions over_ranks(EngineOptions options, int ranks) {
  options.devices.cpu_ranks = ranks;
  return options;
}

EngineOptions room(int sequences, std::int64_t context = 512, std::int64_t chunk = 64) {
  return {.threads = 2, .context = context, .sequences = sequences, .chunk_rows = chunk, .logit_rows = kMost};
}

void expect_same_answer(const Generation& got, const Generation& want) {
  EXPECT_EQ(got.tokens, want.tokens);
  EXPECT_EQ(got.reason, want.reason);
  ASSERT_EQ(got.logprobs.size(), want.logprobs.size());
  for (std::size_t i = 0; i < want.logprobs.size(); ++i) EXPECT_EQ(got.logprobs[i].logprob, want.logprobs[i].logprob) << i;
}

// A scheduler whose events are remembered.
struct Desk {
  explicit Desk(const EngineOptions& options, Format format = Format::kF32, int most = kMost)
      : engine(scheduled_model(format), options), scheduler(engine, {.most_running = most, .rows_beside = 32}) {}

  Scheduler::Id ask(const std::vector<Token>& prompt, const GenerateOptions& options) {
    const std::size_t number = asked++;
    return scheduler.add(prompt, options,
                         {.text = {},
                          .done =
                              [this, number](const Generation& generation) {
                                done.emplace(number, generation);
                                order.push_back(number);
                              },
                          .failed = [this, number](const Error& error) { failed.emplace(number, error.what()); }});
  }
  void run() {
    while (scheduler.step()) ASSERT_LT(++steps, 100000);
  }
  std::int64_t pages_in_use() { return engine.cache().capacity() / kPagePositions - engine.cache().free_pages(); }

  Engine engine;
  Scheduler scheduler;
  std::size_t asked = 0;
  int steps = 0;
  std::map<std::size_t, Generation> done;
  std::map<std::size_t, std::string> failed;
  std::vector<std::size_t> order;
};

Generation alone(const std::vector<Token>& prompt, const GenerateOptions& options, Format format, int ranks = 1) {
  Engine engine(scheduled_model(format), over_ranks(room(1), ranks));
  return Session(engine).generate(prompt, options);
}

class SchedulerOf : public testing::TestWithParam<Format> {};

TEST_P(SchedulerOf, AnswersAreTheSameInAnyCompany) {
  Desk desk(room(kMost), GetParam());
  const std::vector<std::int64_t> lengths{1, 5, 8, 63, 64, 65, 130, 300, 17, 72, 200, 3};
  for (std::size_t i = 0; i < lengths.size(); ++i)
    desk.ask(tokens_of(i, lengths[i]), sampled(20 + static_cast<std::int64_t>(i), i));
  desk.run();
  ASSERT_EQ(desk.done.size(), lengths.size());
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    SCOPED_TRACE(i);
    expect_same_answer(desk.done.at(i), alone(tokens_of(i, lengths[i]), sampled(20 + static_cast<std::int64_t>(i), i), GetParam()));
    EXPECT_EQ(desk.done.at(i).prompt_tokens, lengths[i]);
  }
  EXPECT_EQ(desk.pages_in_use(), desk.scheduler.prefixes().size());
}

// Whatever of a pass's rows others leave to a prompt, no rest of it is read that is summed otherwise.
TEST_P(SchedulerOf, NoPromptIsLeftAFewRows) {
  for (const std::int64_t length : {9, 11, 14, 15}) {
    const Generation want = alone(tokens_of(7, length), sampled(3, 7), GetParam());
    for (std::int64_t left = 16; left < 34; ++left) {
      SCOPED_TRACE(fmt::format("{} beside {}", length, left));
      Desk desk(room(kMost), GetParam());
      desk.ask(tokens_of(1, 20), sampled(60, 1));
      desk.scheduler.step();
      desk.ask(tokens_of(2, left + 3 * 32), sampled(2, 2));
      for (int i = 0; i < 3; ++i) desk.scheduler.step();
      desk.ask(tokens_of(7, length), sampled(3, 7));
      desk.run();
      ASSERT_EQ(desk.done.size(), 3u);
      expect_same_answer(desk.done.at(2), want);
    }
  }
}

TEST_P(SchedulerOf, AlsoOverTwoRanks) {
  Desk desk(over_ranks(room(kMost), 2), GetParam());
  const std::vector<Token> beginning = tokens_of(1, 130);
  std::vector<std::vector<Token>> prompts;
  for (const std::int64_t length : {1, 8, 65, 200}) prompts.push_back(tokens_of(static_cast<std::uint64_t>(length), length));
  for (const std::int64_t length : {3, 70}) prompts.push_back(joined(beginning, tokens_of(7, length)));
  for (std::size_t i = 0; i < prompts.size(); ++i) desk.ask(prompts[i], sampled(20, i));
  desk.run();
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    SCOPED_TRACE(i);
    expect_same_answer(desk.done.at(i), alone(prompts[i], sampled(20, i), GetParam(), 2));
  }
  EXPECT_EQ(desk.pages_in_use(), desk.scheduler.prefixes().size());
}

// Shared beginnings and steps that go through the stages in pieces: the answers are those of one device, bit for bit.
TEST_P(SchedulerOf, AlsoInStages) {
  EngineOptions options = over_ranks(room(kMost, 512, 512), 2);
  options.devices.stages = 2;
  Desk desk(options, GetParam());
  const std::vector<Token> beginning = tokens_of(1, 130);
  std::vector<std::vector<Token>> prompts;
  for (const std::int64_t length : {1, 8, 65, 200, 400}) prompts.push_back(tokens_of(static_cast<std::uint64_t>(length), length));
  for (const std::int64_t length : {3, 70}) prompts.push_back(joined(beginning, tokens_of(7, length)));
  for (std::size_t i = 0; i < prompts.size(); ++i) desk.ask(prompts[i], sampled(20, i));
  desk.run();
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    SCOPED_TRACE(i);
    expect_same_answer(desk.done.at(i), alone(prompts[i], sampled(20, i), GetParam()));
  }
  EXPECT_EQ(desk.pages_in_use(), desk.scheduler.prefixes().size());
}

TEST_P(SchedulerOf, AKnownBeginningChangesNothingButTheWork) {
  const std::vector<Token> beginning = tokens_of(1, 200);
  Desk desk(room(kMost), GetParam());
  for (const std::int64_t length : {200, 3, 64, 100, 200}) {  // the rest behind the beginning
    const std::vector<Token> prompt = joined(beginning, tokens_of(7, length));
    desk.ask(prompt, sampled(10, 3));
    desk.run();
    const Generation& got = desk.done.at(desk.asked - 1);
    expect_same_answer(got, alone(prompt, sampled(10, 3), GetParam()));
    if (desk.asked > 1) {
      EXPECT_GE(got.cached_tokens, 192) << length;
    }
  }
  EXPECT_EQ(desk.done.at(4).cached_tokens, 384) << "the same prompt again: 400 tokens, of which a whole page and 8 are read";
}

TEST_P(SchedulerOf, APausedAnswerGoesOnWhereItWas) {
  Desk desk(room(kMost), GetParam());
  const Scheduler::Id first = desk.ask(tokens_of(1, 70), sampled(40, 1)), second = desk.ask(tokens_of(2, 20), sampled(30, 2));
  for (int i = 0; i < 6; ++i) desk.scheduler.step();
  desk.scheduler.set_paused(first, true);
  desk.run();
  EXPECT_EQ(desk.order, std::vector<std::size_t>{1}) << "the other went on, and then there was nothing to do";
  EXPECT_EQ(desk.scheduler.paused(), 1);
  EXPECT_EQ(desk.scheduler.running(), 0);
  EXPECT_GT(desk.pages_in_use(), desk.scheduler.prefixes().size()) << "it has its pages";
  EXPECT_FALSE(desk.scheduler.step());
  desk.scheduler.set_paused(second, true);  // has ended
  desk.scheduler.set_paused(first, false);
  desk.ask(tokens_of(3, 90), sampled(20, 3));
  desk.run();
  expect_same_answer(desk.done.at(0), alone(tokens_of(1, 70), sampled(40, 1), GetParam()));
  expect_same_answer(desk.done.at(2), alone(tokens_of(3, 90), sampled(20, 3), GetParam()));
  EXPECT_EQ(desk.scheduler.counters().preemptions, 0);
  EXPECT_EQ(desk.pages_in_use(), desk.scheduler.prefixes().size());
}

INSTANTIATE_TEST_SUITE_P(Formats, SchedulerOf, testing::Values(Format::kF32, Format::kQ8_0));

TEST(Scheduler, WhoBeginsAlikeWaitsForTheFirstToReadIt) {
  Desk desk(room(kMost));
  const std::vector<Token> beginning = tokens_of(1, 300);
  for (std::uint64_t i = 0; i < 4; ++i) desk.ask(joined(beginning, tokens_of(10 + i, 20)), sampled(5, i));
  desk.ask(tokens_of(2, 100), sampled(5, 9));
  desk.run();
  EXPECT_EQ(desk.done.at(0).cached_tokens, 0);
  for (std::size_t i = 1; i < 4; ++i) EXPECT_EQ(desk.done.at(i).cached_tokens, 256) << i;
  EXPECT_EQ(desk.done.at(4).cached_tokens, 0);
}

TEST(Scheduler, ShortPromptsPassLongOnesAndLongOnesHaveTheirTurn) {
  Desk desk(room(kMost));
  desk.ask(tokens_of(1, 480), sampled(1, 1));
  for (std::uint64_t i = 2; i < 6; ++i) desk.ask(tokens_of(i, 20), sampled(1, i));
  desk.run();
  EXPECT_EQ(desk.order.back(), 0u);
  Desk busy(room(kMost), Format::kF32, 2);  // a long prompt beside a stream of short ones
  busy.ask(tokens_of(1, 480), sampled(1, 1));
  for (std::uint64_t i = 2; i < 60; ++i) busy.ask(tokens_of(i, 60), sampled(1, i));
  busy.run();
  EXPECT_LT(std::ranges::find(busy.order, 0u) - busy.order.begin(), 40) << "starved";
}

TEST(Scheduler, WhenPagesRunOutTheLastLosesItsOwnAndNobodyIsLost) {
  Desk desk(room(1, 512));  // 8 pages for all
  for (std::uint64_t i = 0; i < 6; ++i) desk.ask(tokens_of(i, 60), sampled(150, i));
  desk.run();
  ASSERT_EQ(desk.done.size(), 6u);
  for (const auto& [number, generation] : desk.done) {
    EXPECT_EQ(generation.tokens.size(), 150u) << number;
    EXPECT_EQ(generation.reason, FinishReason::kLength);
  }
  expect_same_answer(desk.done.at(0), alone(tokens_of(0, 60), sampled(150, 0), Format::kF32));  // the first is never taken from
  EXPECT_GT(desk.scheduler.counters().preemptions, 0);
  EXPECT_EQ(desk.scheduler.counters().drawn_tokens, 6 * 150);
  EXPECT_EQ(desk.scheduler.pages(), 8);
  EXPECT_EQ(desk.scheduler.free_pages(), 8 - desk.pages_in_use());
  EXPECT_EQ(desk.pages_in_use(), desk.scheduler.prefixes().size());
}

TEST(Scheduler, WhoPausesLeavesItsPlaceToOthers) {
  Desk desk(room(kMost), Format::kF32, 1);
  const Scheduler::Id first = desk.ask(tokens_of(1, 20), sampled(30, 1)), waiting = desk.ask(tokens_of(2, 20), sampled(10, 2));
  desk.ask(tokens_of(3, 20), sampled(10, 3));
  for (int i = 0; i < 4; ++i) desk.scheduler.step();
  desk.scheduler.set_paused(first, true);
  desk.scheduler.set_paused(waiting, true);
  desk.run();
  EXPECT_EQ(desk.order, std::vector<std::size_t>{2}) << "one that waits pauses too";
  desk.scheduler.set_paused(waiting, false);
  desk.scheduler.step();
  desk.scheduler.set_paused(first, false);
  for (int i = 0; i < 3; ++i) desk.scheduler.step();
  EXPECT_EQ(desk.scheduler.running(), 1) << "no more than there are places";
  desk.run();
  EXPECT_EQ(desk.order, (std::vector<std::size_t>{2, 1, 0}));
}

TEST(Scheduler, APromptIsReadToItsEndBeforeItsAnswerPauses) {
  Desk desk(room(kMost));
  const std::vector<Token> prompt = tokens_of(1, 300);
  const Scheduler::Id first = desk.ask(prompt, sampled(5, 1));
  desk.scheduler.step();
  desk.scheduler.set_paused(first, true);
  desk.ask(joined(prompt, tokens_of(2, 20)), sampled(5, 2));  // waits for what the first reads
  desk.run();
  EXPECT_EQ(desk.order, std::vector<std::size_t>{1});
  EXPECT_EQ(desk.scheduler.paused(), 1);
  desk.scheduler.cancel(first);
  EXPECT_EQ(desk.pages_in_use(), desk.scheduler.prefixes().size());
  EXPECT_FALSE(desk.scheduler.step());
}

TEST(Scheduler, WhenPagesRunOutWhoHasPausedLosesItsOwnFirst) {
  Desk desk(room(1, 512));  // 8 pages for all
  const Scheduler::Id first = desk.ask(tokens_of(1, 200), sampled(40, 1));
  for (int i = 0; i < 8; ++i) desk.scheduler.step();
  desk.scheduler.set_paused(first, true);
  desk.ask(tokens_of(2, 60), sampled(150, 2));
  desk.ask(tokens_of(3, 60), sampled(150, 3));
  desk.run();
  EXPECT_EQ(desk.done.size(), 2u);
  for (const std::uint64_t i : {1, 2})
    expect_same_answer(desk.done.at(i), alone(tokens_of(i + 1, 60), sampled(150, i + 1), Format::kF32));
  EXPECT_EQ(desk.scheduler.counters().preemptions, 1);
  desk.scheduler.set_paused(first, false);
  desk.run();
  EXPECT_EQ(desk.done.at(0).tokens.size(), 40u);
}

TEST(Scheduler, AnAnswerEndsWhereTheContextDoes) {
  Desk desk(room(1, 128));
  desk.ask(tokens_of(1, 100), sampled(-1, 1));
  desk.ask(tokens_of(2, 128), sampled(-1, 2));
  desk.run();
  EXPECT_EQ(desk.done.at(0).reason, FinishReason::kContextFull);
  EXPECT_EQ(desk.done.at(0).tokens.size(), 29u) << "the last one was drawn and has no place";
  EXPECT_EQ(desk.done.at(1).tokens.size(), 1u);
  expect_error(ErrorKind::kNoRoom, "the prompt has 129 tokens, the context holds 128",
               [&] { desk.ask(tokens_of(3, 129), sampled(1, 1)); });
}

TEST(Scheduler, ACancelledRequestIsSilentAndItsPagesAreFreeAtOnce) {
  Desk desk(room(kMost));
  const Scheduler::Id writing = desk.ask(tokens_of(1, 70), sampled(200, 1));
  for (int i = 0; i < 6; ++i) desk.scheduler.step();
  const Scheduler::Id reading = desk.ask(tokens_of(2, 400), sampled(5, 2)), waiting = desk.ask(tokens_of(2, 401), sampled(5, 2));
  desk.scheduler.step();
  EXPECT_EQ(desk.scheduler.running(), 2);
  EXPECT_EQ(desk.scheduler.waiting(), 1);
  for (const Scheduler::Id id : {writing, reading, waiting, Scheduler::Id{999}}) desk.scheduler.cancel(id);
  EXPECT_EQ(desk.pages_in_use(), desk.scheduler.prefixes().size());
  EXPECT_FALSE(desk.scheduler.step());
  EXPECT_TRUE(desk.done.empty());
}

TEST(Scheduler, OneMayBeCancelledByAnothersText) {
  Engine engine(scheduled_model(Format::kF32), room(kMost));
  Scheduler scheduler(engine, {.most_running = kMost});
  Scheduler::Id other = 0;
  int ended = 0;
  const auto count = [&](const Generation&) { ++ended; };
  scheduler.add(tokens_of(1, 20), sampled(3, 1),
                {.text = {}, .done = [&](const Generation&) { scheduler.cancel(other); }, .failed = {}});
  other = scheduler.add(tokens_of(2, 20), sampled(3, 2), {.text = {}, .done = count, .failed = {}});
  scheduler.add(tokens_of(3, 20), sampled(4, 3), {.text = {}, .done = count, .failed = {}});
  while (scheduler.step()) {
  }
  EXPECT_EQ(ended, 1) << "the second ended in the same step as the first, behind it";
}

TEST(Scheduler, OneOfALaterGroupMayBeCancelledByAnEarlierOne) {
  EngineOptions options = room(10);
  options.logit_rows = 10;
  Engine engine(scheduled_model(Format::kF32), options);
  Scheduler scheduler(engine, {.most_running = 10});
  std::vector<Scheduler::Id> ids;
  int ended = 0;
  for (std::uint64_t i = 0; i < 9; ++i) {  // written in groups of 7
    const auto done = [&, i](const Generation&) {
      ++ended;
      if (i == 0) scheduler.cancel(ids[8]);
    };
    ids.push_back(scheduler.add(tokens_of(i, 20), sampled(i == 0 ? 20 : 40, i), {.text = {}, .done = done, .failed = {}}));
  }
  while (scheduler.step()) {
  }
  EXPECT_EQ(ended, 8);
}

TEST(Scheduler, EachTokenIsToldWithItsPieceBeforeItsText) {
  const auto checkpoint = scripted_checkpoint({"a", "b\xC3", "\xA9", "c", "d", "<eos>"});
  Engine engine(checkpoint, {.threads = 1, .context = 128, .logit_rows = 1});
  Scheduler scheduler(engine, {.most_running = 1});
  GenerateOptions options;
  options.sampler.temperature = 0;
  options.top_logprobs = 2;
  std::vector<std::string> told;
  std::vector<SampledToken> sampled;
  Generation result;
  scheduler.add({Token{5}, Token{0}}, options,
                {.text = [&](std::string_view text) { told.push_back("text " + std::string(text)); },
                 .done = [&](const Generation& generation) { result = generation; },
                 .failed = {},
                 .token =
                     [&](const SampledToken& token, std::string_view piece) {
                       sampled.push_back(token);
                       told.push_back("token " + std::string(piece));
                     }});
  while (scheduler.step()) {
  }
  EXPECT_THAT(told, ElementsAre("token b\xC3", "text b", "token \xA9", "text \xC3\xA9", "token c", "text c", "token d", "text d"));
  ASSERT_EQ(sampled.size(), result.logprobs.size());
  for (std::size_t i = 0; i < sampled.size(); ++i) {
    EXPECT_EQ(sampled[i].token, result.tokens[i]);
    EXPECT_EQ(sampled[i].logprob, result.logprobs[i].logprob);
    EXPECT_EQ(sampled[i].top.size(), 2u);
  }
  EXPECT_EQ(scheduler.counters().drawn_tokens, 5) << "the end token too";
}

TEST(Scheduler, WhoIsCancelledByItsOwnTokenIsSilent) {
  const auto checkpoint = scripted_checkpoint({"a", "b", "c", "<eos>"});
  Engine engine(checkpoint, {.threads = 1, .context = 128, .logit_rows = 1});
  Scheduler scheduler(engine, {.most_running = 1});
  std::string told;
  Scheduler::Id self = 0;
  self = scheduler.add({Token{0}}, sampled(5, 1),
                       {.text = [&](std::string_view) { told += "text "; },
                        .done = [&](const Generation&) { told += "done "; },
                        .failed = {},
                        .token =
                            [&](const SampledToken&, std::string_view) {
                              told += "token ";
                              scheduler.cancel(self);
                            }});
  while (scheduler.step()) {
  }
  EXPECT_EQ(told, "token ");
}

TEST(Scheduler, ProgressIsToldFromTheFirstPlaceToTheLastToken) {
  Desk desk(room(kMost));
  const std::vector<Token> prompt = tokens_of(1, 300);
  std::vector<std::int64_t> first, again;
  for (std::vector<std::int64_t>* const seen : {&first, &again}) {
    desk.scheduler.add(prompt, sampled(2, 1),
                       {.text = {},
                        .done = [](const Generation&) {},
                        .failed = {},
                        .token = {},
                        .progress =
                            [seen](std::int64_t read, std::int64_t total) {
                              EXPECT_EQ(total, 300);
                              seen->push_back(read);
                            }});
    desk.run();
  }
  EXPECT_THAT(first, ElementsAre(0, 64, 128, 192, 256, 300));
  EXPECT_THAT(again, ElementsAre(256, 300));
  EXPECT_EQ(desk.scheduler.counters().prefilled_tokens, 300 + 44);
  EXPECT_EQ(desk.scheduler.counters().cached_tokens, 256);
}

TEST(Scheduler, OneMayBeCancelledByAnothersProgress) {
  Desk desk(room(kMost));
  Scheduler::Id other = 0, waiting = 0;
  desk.scheduler.add(tokens_of(1, 20), sampled(2, 1),
                     {.text = {},
                      .done = [](const Generation&) {},
                      .failed = {},
                      .token = {},
                      .progress = [&](std::int64_t read, std::int64_t) { desk.scheduler.cancel(read == 0 ? waiting : other); }});
  other = desk.ask(tokens_of(2, 20), sampled(2, 2));
  waiting = desk.ask(tokens_of(3, 20), sampled(2, 3));
  desk.ask(tokens_of(4, 20), sampled(2, 4));
  desk.run();
  EXPECT_THAT(desk.order, ElementsAre(2u));
  EXPECT_EQ(desk.pages_in_use(), 0);
}

TEST(Scheduler, ARequestThatFailsStopsNobody) {
  Desk desk(room(kMost));
  GenerateOptions bad = sampled(5, 1);
  bad.sampler.logit_bias = {{Token{5000}, 1.0}};
  desk.ask(tokens_of(1, 20), bad);
  desk.ask(tokens_of(2, 20), sampled(5, 2));
  desk.run();
  EXPECT_THAT(desk.failed.at(0), testing::HasSubstr("5000"));
  EXPECT_EQ(desk.done.at(1).tokens.size(), 5u);
}

TEST(Scheduler, PromptsAloneAreReadAndKept) {
  Desk desk(room(kMost));
  desk.ask(tokens_of(1, 200), sampled(0, 1));
  desk.run();
  EXPECT_TRUE(desk.done.at(0).tokens.empty());
  EXPECT_EQ(desk.done.at(0).reason, FinishReason::kLength);
  EXPECT_EQ(desk.scheduler.prefixes().size(), 3);
}

TEST(Scheduler, NothingLeaksUnderRandomUse) {
  Desk desk(room(2, 256), Format::kF32, 4);
  std::vector<Scheduler::Id> ids;
  for (std::uint64_t step = 0; step < 400; ++step) {
    const std::uint64_t choice = random_bits(5, 1, step);
    if (choice % 3 == 0) {
      const auto length = static_cast<std::int64_t>(1 + random_bits(5, 2, step) % 200);
      ids.push_back(
          desk.ask(tokens_of(random_bits(5, 3, step) % 4, length), sampled(static_cast<std::int64_t>(choice % 60), step)));
    }
    if (choice % 7 == 0 && !ids.empty()) desk.scheduler.cancel(ids[random_bits(5, 4, step) % ids.size()]);
    if (!ids.empty()) desk.scheduler.set_paused(ids[random_bits(5, 5, step) % ids.size()], choice % 5 < 2);
    desk.scheduler.step();
  }
  for (const Scheduler::Id id : ids) desk.scheduler.set_paused(id, false);
  desk.run();
  EXPECT_GT(desk.done.size(), 60u);
  EXPECT_TRUE(desk.failed.empty());
  EXPECT_EQ(desk.pages_in_use(), desk.scheduler.prefixes().size());
}

TEST(Scheduler, RefusesOptionsOutOfRange) {
  Engine engine(scheduled_model(Format::kF32), room(1));
  expect_error(ErrorKind::kUsage, "8 answers at once, expected 1 to 7", [&] { Scheduler(engine, {.most_running = 8}); });
  expect_error(ErrorKind::kUsage, "4 rows at once, expected 16 or more",
               [&] { Scheduler(engine, {.most_running = 1, .rows_beside = 4}); });
  Scheduler scheduler(engine, {.most_running = 1});
  expect_error(ErrorKind::kUsage, "the prompt has no tokens", [&] { scheduler.add({}, sampled(1, 1), {}); });
}

}  // namespace
}  // namespace puna
