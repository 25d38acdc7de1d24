// SPDX-License-Identifier: Apache-2.0
// The network in stages against the same network in one: the same bits, whatever the batch and in however many pieces it goes
// through the stages; split over ranks too, the bits of those ranks; and what happens when a stage fails.
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <string>

#include "expect_error.h"
#include "model/adapter_fixture.h"
#include "model/built_in.h"
#include "model/rank_rig.h"
#include "model/tiny_checkpoint.h"
#include "shared_data.h"

namespace puna {
namespace {

ModelConfig deep_config() {
  ModelConfig config = tiny_config();
  config.layers = 5;
  config.heads = 6;  // three: no number of ranks but 3 and 1 would do
  config.kv_heads = 3;
  config.head_width = 128;
  config.vocabulary = 98;
  return config;
}

testing::AssertionResult same_bits(std::span<const float> got, std::span<const float> want) {
  if (got.size() != want.size()) return testing::AssertionFailure() << got.size() << " numbers, not " << want.size();
  if (std::memcmp(got.data(), want.data(), got.size_bytes()) == 0) return testing::AssertionSuccess();
  const auto at = std::ranges::mismatch(got, want);
  return testing::AssertionFailure() << "number " << at.in1 - got.begin() << " is " << *at.in1 << ", not " << *at.in2;
}

class LlamaStages : public testing::TestWithParam<Format> {};

// Chunks of 300 rows go through the stages in two pieces.
TEST_P(LlamaStages, HaveTheBitsOfOne) {
  const auto checkpoint = tiny_checkpoint(deep_config(), GetParam());
  const std::vector<Token> tokens = random_tokens(300, 98);
  const std::span<const Token> all = tokens;
  RankRig one(checkpoint, 1, Format::kF32, 1024);
  for (const int stages : {2, 5}) {
    RankRig several(checkpoint, {1, stages}, Format::kF32, 1024);
    for (const std::size_t chunk : {300, 7, 1}) {
      const auto some = all.first(chunk == 300 ? 300 : 20);
      const std::vector<float> expected = one.append(one.cache.add_sequence(), some, chunk);
      EXPECT_TRUE(same_bits(several.append(several.cache.add_sequence(), some, chunk), expected))
          << stages << " stages, chunks of " << chunk;
    }
    for (int sequence = 0; sequence < 3; ++sequence) one.cache.remove_sequence(sequence);
  }
}

TEST_P(LlamaStages, OverRanksHaveTheBitsOfThoseRanks) {
  ModelConfig config = deep_config();
  config.kv_heads = 2;
  config.heads = 4;
  const auto checkpoint = tiny_checkpoint(config, GetParam());
  const std::vector<Token> tokens = random_tokens(290, 98);
  RankRig one(checkpoint, 2), several(checkpoint, {2, 3});
  const std::vector<float> expected = one.append(one.cache.add_sequence(), tokens, 290);
  EXPECT_TRUE(same_bits(several.append(several.cache.add_sequence(), tokens, 290), expected));
  EXPECT_EQ(several.greedy(std::span(tokens).first(30), 10), one.greedy(std::span(tokens).first(30), 10));
}

INSTANTIATE_TEST_SUITE_P(All, LlamaStages,
                         testing::Values(Format::kF32, Format::kF16, Format::kBF16, Format::kF8E4M3, Format::kQ8_0, Format::kQ4_0,
                                         Format::kQ4_K),
                         [](const auto& parameter) { return std::string(puna::info(parameter.param).name); });

TEST(LlamaInStages, KeysAndValuesOfAnyFormatLieWithTheirLayers) {
  const auto checkpoint = tiny_checkpoint(deep_config(), Format::kF32);
  const std::vector<Token> tokens = random_tokens(100, 98);
  for (const Format kv : {Format::kF16, Format::kQ8_0}) {
    RankRig one(checkpoint, 1, kv), three(checkpoint, {1, 3}, kv);
    EXPECT_TRUE(same_bits(three.append(three.cache.add_sequence(), tokens, 60), one.append(one.cache.add_sequence(), tokens, 60)));
    for (int stage = 0; stage < 3; ++stage) {
      const std::int64_t layers = three.stages[static_cast<std::size_t>(stage)]->config.layers;
      EXPECT_NE(three.cache.layer(layers - 1, stage).keys, nullptr);
      expect_error(ErrorKind::kInternal, "layer " + std::to_string(layers) + " of " + std::to_string(layers),
                   [&] { three.cache.layer(layers, stage); });
    }
  }
}

// Several sequences at once, wanted rows, shared pages, truncation; batches of one piece and of three, whose bounds cut sequences.
TEST(LlamaInStages, AnyBatchIsWhatItIsInOne) {
  const auto checkpoint = tiny_checkpoint(deep_config(), Format::kQ8_0);
  const std::vector<Token> tokens = random_tokens(500, 98);
  const std::span<const Token> all = tokens;
  RankRig one(checkpoint, 1, Format::kF32, 2048);
  for (const int stages : {2, 5}) {
    RankRig several(checkpoint, {1, stages}, Format::kF32, 2048);
    const auto expect_same = [&](auto&& step, const char* what) {
      EXPECT_TRUE(same_bits(step(several), step(one))) << what << ", " << stages << " stages";
    };
    for (RankRig* const rig : {&one, &several}) {
      for (int s = 0; s < 5; ++s) rig->cache.add_sequence();
    }
    expect_same([&](RankRig& rig) { return rig.append(1, all.first(70), 35); }, "a prompt");
    const std::vector<Batch::Part> ragged{{2, 1}, {0, 3}, {1, 2}};
    expect_same([&](RankRig& rig) { return rig.run(ragged, all.last(6)); }, "three sequences");
    const std::vector<Batch::Part> long_parts{{0, 100}, {1, 1}, {2, 170}, {3, 130}};
    expect_same(
        [&](RankRig& rig) {
          return rig.run(long_parts, all.first(401), std::vector<std::int32_t>{99, 100, 270, 400});
        },
        "the last rows of four sequences in three pieces");
    expect_same(
        [&](RankRig& rig) {
          for (const int s : {0, 1, 2, 3}) rig.cache.truncate(s, 3);
          std::vector<std::int32_t> some;
          for (std::int32_t row = 5; row < 390; row += row % 7 == 0 ? 1 : 3) some.push_back(row);
          return rig.run(long_parts, all.last(401), some);
        },
        "many rows of four sequences, but none of the last");
    expect_same(
        [&](RankRig& rig) {
          return rig.run(std::vector<Batch::Part>{{4, 400}}, all.first(400), std::vector<std::int32_t>{3});
        },
        "a row of the first piece");
    expect_same(
        [&](RankRig& rig) {
          rig.cache.truncate(4, 0);
          rig.cache.begin_with(4, rig.cache.pages(2).first(2));
          return rig.append(4, all.subspan(64, 5), 5);
        },
        "behind shared pages");
    EXPECT_EQ(several.cache.free_pages(), one.cache.free_pages());
    expect_same(
        [&](RankRig& rig) {
          rig.run(std::vector<Batch::Part>{{0, 1}, {3, 300}}, all.first(301), {});
          return rig.append(3, all.first(1), 1);
        },
        "behind rows without logits");
    for (RankRig* const rig : {&one, &several}) {
      for (int s = 0; s < 5; ++s) rig->cache.remove_sequence(s);
    }
  }
}

TEST(LlamaInStages, AdaptersOfTheCheckpointGoWithTheirLayers) {
  const auto checkpoint = tiny_checkpoint(deep_config(), Format::kQ8_0);
  const auto set = random_adapters(checkpoint->config, 4, 5);
  checkpoint->adapters = set->layers;
  const std::vector<Token> tokens = random_tokens(300, 98);
  RankRig one(checkpoint, 1), three(checkpoint, {1, 3});
  for (const std::size_t chunk : {300, 7}) {
    const auto some = std::span(tokens).first(chunk == 300 ? 300 : 20);
    EXPECT_TRUE(
        same_bits(three.append(three.cache.add_sequence(), some, chunk), one.append(one.cache.add_sequence(), some, chunk)));
  }
}

TEST(LlamaInStages, StatesAndTheirLogits) {
  const auto checkpoint = tiny_checkpoint(deep_config(), Format::kF32);
  const std::vector<Token> tokens = random_tokens(400, 98);
  const auto read = [&](RankRig& rig) {
    const std::vector<Batch::Part> parts{{rig.cache.add_sequence(), 400}};
    rig.model.forward({.tokens = tokens, .parts = parts, .logit_rows = {}, .all_states = true}, rig.cache);
    const std::span<const float> states = rig.model.states(), logits = rig.model.logits_of_states(250, 120);
    EXPECT_EQ(states.size(), 400u * 256);
    EXPECT_EQ(logits.size(), 120u * 98);
    std::vector<float> all(states.begin(), states.end());
    all.insert(all.end(), logits.begin(), logits.end());
    return all;
  };
  RankRig one(checkpoint, 1), three(checkpoint, {1, 3});
  EXPECT_TRUE(same_bits(read(three), read(one)));
}

TEST(LlamaInStages, TheLikeliestOfAllPieces) {
  const auto checkpoint = tiny_checkpoint(deep_config(), Format::kF32);
  const std::vector<Token> tokens = random_tokens(400, 98);
  const auto likeliest = [&](RankRig& rig) {
    const std::vector<Batch::Part> parts{{rig.cache.add_sequence(), 400}};
    const std::vector<std::int32_t> wanted = RankRig::all_rows(400);
    EXPECT_TRUE(
        rig.model.forward({.tokens = tokens, .parts = parts, .logit_rows = wanted, .likeliest_only = true}, rig.cache).empty());
    const std::span<const std::int32_t> found = rig.model.likeliest();
    return std::vector<std::int32_t>(found.begin(), found.end());
  };
  RankRig one(checkpoint, 1), two(checkpoint, {1, 2});
  EXPECT_EQ(likeliest(two), likeliest(one));
}

TEST(LlamaInStages, ShortlistsOfAllPieces) {
  const auto checkpoint = tiny_checkpoint(deep_config(), Format::kF32);
  const std::vector<Token> tokens = random_tokens(400, 98);
  RankRig one(checkpoint, 1), two(checkpoint, {1, 2}), split(checkpoint, {2, 2});
  std::vector<RowDraw> draws;
  for (std::uint64_t row = 0; row < 400; ++row) draws.push_back({random_uniform(1, 1, row), 1});
  for (RankRig* const rig : {&one, &two, &split}) {
    rig->model.make_shortlists();
    const std::vector<Batch::Part> parts{{rig->cache.add_sequence(), 400}};
    const std::vector<std::int32_t> wanted = RankRig::all_rows(400);
    EXPECT_TRUE(
        rig->model.forward({.tokens = tokens, .parts = parts, .logit_rows = wanted, .draws = draws, .known_tokens = 95}, rig->cache)
            .empty());
    ASSERT_EQ(rig->model.shortlists().size(), 400u);
    for (std::size_t row = 0; row < 400; ++row) {
      const Shortlist &found = rig->model.shortlists()[row], &expected = one.model.shortlists()[row];
      EXPECT_EQ(found.width, 95);
      EXPECT_TRUE(std::ranges::equal(found.tokens(), expected.tokens()));
      EXPECT_EQ(found.drawn, rig == &split ? -1 : expected.drawn);
    }
    const std::span<const float> logits = rig->model.row_logits(399);
    EXPECT_TRUE(std::ranges::equal(logits, rig->model.shortlists()[399].values()));
  }
}

TEST(LlamaInStages, TrainedModelsWriteTheSame) {
  const std::shared_ptr<const Checkpoint> nano = open_checkpoint(kBuiltInPath);
  RankRig one(nano, 1);
  for (const int stages : {2, 3}) {
    RankRig several(nano, {1, stages}), split(nano, {2, 2});
    for (const char* const text : {"What is the capital of Japan?", "2 + 2 =", "Hello"}) {
      const std::vector<Token> prompt = nano->need_tokenizer().encode(text);
      EXPECT_EQ(several.greedy(prompt, 24), one.greedy(prompt, 24)) << text;
      EXPECT_EQ(split.greedy(prompt, 24), one.greedy(prompt, 24)) << text;
    }
  }
}

TEST(LlamaInStages, StoriesAreTheSame) {
  PUNA_NEEDS_SHARED("stories260K");
  const std::shared_ptr<const Checkpoint> stories = open_checkpoint(shared_data("stories260K/stories260K.gguf"));
  RankRig one(stories, 1), five(stories, {1, 5});
  const std::vector<Token> prompt = stories->need_tokenizer().encode("Once upon a time");
  EXPECT_EQ(five.greedy(prompt, 150), one.greedy(prompt, 150));
}

// One rank of one stage throws instead of its n-th sum.
class FailingStage final : public HostTeam {
 public:
  FailingStage(int ranks, std::string message) : HostTeam(ranks), message_(std::move(message)) {}
  void sum(const Device& device, float* x, std::int64_t count) override {
    if (device.rank == 1 && sums_left-- == 0) fail(ErrorKind::kNoRoom, "memory", "{}", message_);
    HostTeam::sum(device, x, count);
  }

  int sums_left = 1 << 30;

 private:
  std::string message_;
};

TEST(LlamaInStages, AFailedStageEndsTheCallAndTheNextOneWorks) {
  ModelConfig config = deep_config();
  config.kv_heads = 2;
  config.heads = 4;
  const auto checkpoint = tiny_checkpoint(config, Format::kF32);
  const std::vector<Token> tokens = random_tokens(400, 98);
  RankRig fresh(checkpoint, {2, 3});
  const std::vector<float> expected = fresh.append(fresh.cache.add_sequence(), tokens, 400);
  std::array<FailingStage*, 3> failing{};
  RankRig::Teams teams;
  for (std::size_t stage = 0; stage < 3; ++stage) {
    auto team = std::make_unique<FailingStage>(2, "stage " + std::to_string(stage) + " has none left");
    failing[stage] = team.get();
    teams.push_back(std::move(team));
  }
  RankRig rig(checkpoint, {2, 3}, std::move(teams), {});
  const int sequence = rig.cache.add_sequence();
  for (std::size_t stage = 0; stage < 3; ++stage) {
    for (const int sums : {0, 1, 5}) {  // two in each of its layers, for each of three pieces
      failing[stage]->sums_left = sums;
      expect_error(ErrorKind::kNoRoom, "[memory] stage " + std::to_string(stage) + " has none left",
                   [&] { rig.append(sequence, tokens, 400); });
      EXPECT_EQ(rig.cache.length(sequence), 0) << "as before";
    }
    failing[stage]->sums_left = 1 << 30;
  }
  EXPECT_TRUE(same_bits(rig.append(sequence, tokens, 400), expected));
}

TEST(LlamaInStages, WrongNumbersAreRefused) {
  const auto checkpoint = tiny_checkpoint(deep_config(), Format::kF32);
  ThreadPool pool(1);
  const Device device{.pool = pool};
  const std::vector<Llama::RankPlace> places(3, {checkpoint, device});
  expect_error(ErrorKind::kInternal, "3 ranks in 2 stages", [&] { Llama(places, 2, 8, 8); });
  RankRig two(checkpoint, {1, 2});
  const AdapterSet adapters{.name = "mine", .layers = {}, .owner = {}};
  const std::vector<Batch::Part> parts{{two.cache.add_sequence(), 1, &adapters}};
  expect_error(ErrorKind::kInternal, "mine has no part for rank 0", [&] { two.run(parts, random_tokens(1, 98)); });
}

}  // namespace
}  // namespace puna
