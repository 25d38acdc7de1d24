// SPDX-License-Identifier: Apache-2.0
// The network over several ranks against the same network on one: logits, states, likeliest tokens, whatever the batch; and what
// happens when one of the ranks fails.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <mutex>
#include <string>

#include "expect_error.h"
#include "model/adapter_fixture.h"
#include "model/built_in.h"
#include "model/rank_rig.h"
#include "model/tiny_checkpoint.h"
#include "shared_data.h"

namespace puna {
namespace {

// Splits over 2 and 4 in every format; the vocabulary splits unevenly, and so does the feed-forward width.
ModelConfig four_way_config() {
  ModelConfig config = tiny_config();
  config.kv_heads = 4;
  config.head_width = 128;
  config.feed_forward = 1280;  // five blocks of 256
  config.vocabulary = 98;
  return config;
}

std::shared_ptr<Checkpoint> with_row_scales(std::shared_ptr<Checkpoint> checkpoint) {
  auto scales = std::make_shared<std::vector<float>>();
  for (int i = 0; i < 2048; ++i) scales->push_back(0.75f + 0.125f * static_cast<float>(i % 5));
  for (LayerWeights& layer : checkpoint->weights.layers) {
    for (Tensor* const tensor : {&layer.query, &layer.attention_output, &layer.gate, &layer.up, &layer.down})
      tensor->row_scales = std::as_bytes(std::span(*scales)).first(static_cast<std::size_t>(tensor->shape[0]) * sizeof(float));
  }
  checkpoint->owners.push_back(scales);
  return checkpoint;
}

// The largest difference, in parts of the largest logit.
double distance_of_logits(std::span<const float> got, std::span<const float> want) {
  EXPECT_EQ(got.size(), want.size());
  double difference = 0, largest = 0;
  for (std::size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
    difference = std::max(difference, std::fabs(static_cast<double>(got[i]) - static_cast<double>(want[i])));
    largest = std::max(largest, std::fabs(static_cast<double>(want[i])));
  }
  return std::isfinite(difference) && largest > 0 ? difference / largest : INFINITY;
}

class LlamaRanks : public testing::TestWithParam<Format> {};

TEST_P(LlamaRanks, AgreeWithOne) {
  const bool rounds = info(GetParam()).block_values > 1;  // activations, which may fall to the other side of a half
  auto checkpoint = tiny_checkpoint(four_way_config(), GetParam());
  if (GetParam() == Format::kF8E4M3) checkpoint = with_row_scales(checkpoint);
  const std::vector<Token> tokens = random_tokens(40, 98);
  for (const std::size_t chunk : {40, 7, 1}) {
    RankRig one(checkpoint, 1);
    const std::vector<float> expected = one.append(one.cache.add_sequence(), tokens, chunk);
    for (const int ranks : {2, 4}) {
      RankRig several(checkpoint, ranks);
      const double found = distance_of_logits(several.append(several.cache.add_sequence(), tokens, chunk), expected);
      EXPECT_LT(found, rounds ? 3e-2 : 1e-5) << ranks << " ranks, chunks of " << chunk;
      RecordProperty("distance", std::to_string(found));
    }
  }
}

TEST_P(LlamaRanks, ARerunGivesEqualBits) {
  const auto checkpoint = tiny_checkpoint(four_way_config(), GetParam());
  const std::vector<Token> tokens = random_tokens(30, 98);
  RankRig first(checkpoint, 4), second(checkpoint, 4);
  const std::vector<float> logits = first.append(first.cache.add_sequence(), tokens, 19);
  EXPECT_EQ(second.append(second.cache.add_sequence(), tokens, 19), logits);
  EXPECT_EQ(first.append(first.cache.add_sequence(), tokens, 19), logits);
}

INSTANTIATE_TEST_SUITE_P(All, LlamaRanks,
                         testing::Values(Format::kF32, Format::kF16, Format::kBF16, Format::kF8E4M3, Format::kQ8_0, Format::kQ4_0,
                                         Format::kQ4_K),
                         [](const auto& parameter) { return std::string(puna::info(parameter.param).name); });

TEST(LlamaOverRanks, TiedEmbeddingsAndHalvesToo) {
  ModelConfig config = four_way_config();
  config.tied_embeddings = true;
  config.rope_pairing = RopePairing::kHalves;
  const auto checkpoint = tiny_checkpoint(config, Format::kF32);
  checkpoint->weights.output = checkpoint->weights.token_embedding;
  const std::vector<Token> tokens = random_tokens(20, 98);
  RankRig one(checkpoint, 1), four(checkpoint, 4);
  EXPECT_LT(
      distance_of_logits(four.append(four.cache.add_sequence(), tokens, 20), one.append(one.cache.add_sequence(), tokens, 20)),
      1e-5);
}

// Several sequences at once, wanted rows, shared pages, truncation: the book of pages is one, whatever holds them.
TEST(LlamaOverRanks, AnyBatchIsWhatItIsOnOne) {
  const auto checkpoint = tiny_checkpoint(four_way_config(), Format::kF32);
  const std::vector<Token> tokens = random_tokens(110, 98);
  const std::span<const Token> all = tokens;
  RankRig one(checkpoint, 1, Format::kF32, 1024);
  for (const int ranks : {2, 4}) {
    RankRig several(checkpoint, ranks, Format::kF32, 1024);
    const auto expect_same = [&](auto&& step, const char* what) {
      EXPECT_LT(distance_of_logits(step(several), step(one)), 1e-5) << what << ", " << ranks << " ranks";
    };
    for (RankRig* const rig : {&one, &several}) {
      for (int s = 0; s < 4; ++s) rig->cache.add_sequence();
    }
    expect_same([&](RankRig& rig) { return rig.append(1, all.first(70), 35); }, "a prompt");
    const std::vector<Batch::Part> ragged{{2, 1}, {0, 3}, {1, 2}};
    expect_same([&](RankRig& rig) { return rig.run(ragged, all.last(6)); }, "three sequences");
    const std::vector<std::int32_t> some{0, 3, 4, 19};
    expect_same([&](RankRig& rig) { return rig.run(std::vector<Batch::Part>{{0, 5}, {2, 20}}, all.first(25), some); }, "some rows");
    expect_same(
        [&](RankRig& rig) {
          rig.cache.truncate(1, 66);
          return rig.append(1, all.first(9), 9);
        },
        "behind a cut");
    expect_same(
        [&](RankRig& rig) {
          rig.cache.begin_with(3, rig.cache.pages(1).first(1));
          return rig.append(3, all.subspan(64, 5), 5);
        },
        "behind a shared page");
    EXPECT_EQ(several.cache.free_pages(), one.cache.free_pages());
    expect_same(
        [&](RankRig& rig) {
          return rig.run(std::vector<Batch::Part>{{0, 1}, {3, 1}}, all.first(2), {}).empty() ? rig.append(0, all.first(1), 1)
                                                                                             : std::vector<float>();
        },
        "behind rows without logits");
    for (RankRig* const rig : {&one, &several}) {
      for (int s = 0; s < 4; ++s) rig->cache.remove_sequence(s);
    }
  }
}

// Each rank adds its part of B A: rows of some matrices, columns of others.
TEST(LlamaOverRanks, AdaptersOfTheCheckpointAreWhatTheyAreOnOne) {
  const auto checkpoint = tiny_checkpoint(four_way_config(), Format::kF32);
  const std::vector<Token> tokens = random_tokens(30, 98);
  RankRig without(checkpoint, 1);
  const std::vector<float> plain = without.append(without.cache.add_sequence(), tokens, 30);
  for (const WeightRole role : kAdaptedRoles) {
    const auto adapted = std::make_shared<Checkpoint>(*checkpoint);
    const auto set = random_adapters(checkpoint->config, 5, 7, {role});
    adapted->adapters = set->layers;
    RankRig one(adapted, 1);
    const std::vector<float> expected = one.append(one.cache.add_sequence(), tokens, 30);
    ASSERT_GT(distance_of_logits(plain, expected), 1e-3) << "the adapters change nothing";
    for (const int ranks : {2, 4}) {
      RankRig several(adapted, ranks);
      for (const std::size_t chunk : {30, 1}) {
        EXPECT_LT(distance_of_logits(several.append(several.cache.add_sequence(), tokens, chunk), expected), 1e-5)
            << info(role).hugging_face << ", " << ranks << " ranks, chunks of " << chunk;
      }
    }
  }
}

TEST(LlamaOverRanks, StatesAndTheirLogits) {
  const auto checkpoint = tiny_checkpoint(four_way_config(), Format::kF32);
  const std::vector<Token> tokens = random_tokens(30, 98);
  RankRig one(checkpoint, 1), two(checkpoint, 2);
  const auto read = [&](RankRig& rig) {
    const std::vector<Batch::Part> parts{{rig.cache.add_sequence(), 30}};
    rig.model.forward({.tokens = tokens, .parts = parts, .logit_rows = {}, .all_states = true}, rig.cache);
    const std::span<const float> states = rig.model.states(), logits = rig.model.logits_of_states(7, 12);
    EXPECT_EQ(states.size(), 30u * 256);
    EXPECT_EQ(logits.size(), 12u * 98);
    return std::pair(std::vector<float>(states.begin(), states.end()), std::vector<float>(logits.begin(), logits.end()));
  };
  const auto expected = read(one), found = read(two);
  EXPECT_LT(distance_of_logits(found.first, expected.first), 1e-5);
  EXPECT_LT(distance_of_logits(found.second, expected.second), 1e-5);
}

TEST(LlamaOverRanks, TheLikeliestIsTheLowestOfTheLargest) {
  const auto checkpoint = tiny_checkpoint(four_way_config(), Format::kF32);
  // Rows of the output matrix in two ranks' shares are the same, so their logits are.
  auto rows = std::make_shared<std::vector<float>>(98 * 256);
  std::memcpy(rows->data(), checkpoint->weights.output.bytes.data(), rows->size() * sizeof(float));
  for (const int copy : {60, 97}) std::copy_n(rows->begin() + 30 * 256, 256, rows->begin() + copy * 256);
  checkpoint->weights.output.bytes = std::as_bytes(std::span(*rows));
  checkpoint->owners.push_back(rows);
  const std::vector<Token> tokens = random_tokens(100, 98, 3);
  RankRig one(checkpoint, 1), two(checkpoint, 2), four(checkpoint, 4);
  const auto likeliest = [&](RankRig& rig) {
    const std::vector<Batch::Part> parts{{rig.cache.add_sequence(), 100}};
    const std::vector<std::int32_t> wanted = RankRig::all_rows(100);
    EXPECT_TRUE(
        rig.model.forward({.tokens = tokens, .parts = parts, .logit_rows = wanted, .likeliest_only = true}, rig.cache).empty());
    const std::span<const std::int32_t> found = rig.model.likeliest();
    return std::vector<std::int32_t>(found.begin(), found.end());
  };
  const std::vector<std::int32_t> expected = likeliest(one);
  EXPECT_EQ(likeliest(two), expected);
  EXPECT_EQ(likeliest(four), expected);
  EXPECT_GT(std::ranges::count(expected, 30), 0) << "no row has a tie";
}

TEST(LlamaOverRanks, TrainedModelsWriteTheSame) {
  const std::shared_ptr<const Checkpoint> nano = open_checkpoint(kBuiltInPath);
  RankRig one(nano, 1), two(nano, 2);
  for (const char* const text : {"What is the capital of Japan?", "2 + 2 =", "Hello"}) {
    const std::vector<Token> prompt = nano->need_tokenizer().encode(text);
    EXPECT_EQ(two.greedy(prompt, 24), one.greedy(prompt, 24)) << text;
  }
}

TEST(LlamaOverRanks, StoriesAreTheSame) {
  PUNA_NEEDS_SHARED("stories260K");
  const std::shared_ptr<const Checkpoint> stories = open_checkpoint(shared_data("stories260K/stories260K.gguf"));
  RankRig one(stories, 1);
  const std::vector<Token> prompt = stories->need_tokenizer().encode("Once upon a time");
  const std::vector<Token> expected = one.greedy(prompt, 150);
  for (const int ranks : {2, 4}) {
    RankRig several(stories, ranks);
    EXPECT_EQ(several.greedy(prompt, 150), expected) << ranks;
  }
}

// Keeps what every sum left in every rank.
class RecordingTeam final : public HostTeam {
 public:
  explicit RecordingTeam(int ranks) : HostTeam(ranks), sums(static_cast<std::size_t>(ranks)) {}
  void sum(const Device& device, float* x, std::int64_t count) override {
    HostTeam::sum(device, x, count);
    sums[static_cast<std::size_t>(device.rank)].emplace_back(x, x + count);
  }

  std::vector<std::vector<std::vector<float>>> sums;
};

TEST(LlamaOverRanks, AllRanksHaveTheSameResidualStream) {
  const auto checkpoint = tiny_checkpoint(four_way_config(), Format::kQ8_0);
  auto team = std::make_unique<RecordingTeam>(4);
  const RecordingTeam& seen = *team;
  RankRig rig(checkpoint, 4, RankRig::one_team(std::move(team)), {});
  rig.append(rig.cache.add_sequence(), random_tokens(50, 98), 31);
  ASSERT_EQ(seen.sums[0].size(), 2u * 2 * 2) << "two sums in each of two layers, for two batches";
  for (std::size_t rank = 1; rank < 4; ++rank) EXPECT_EQ(seen.sums[rank], seen.sums[0]) << rank;
}

// One rank throws instead of its n-th sum.
class FailingTeam final : public HostTeam {
 public:
  FailingTeam(int ranks, int failing) : HostTeam(ranks), failing_(failing) {}
  void sum(const Device& device, float* x, std::int64_t count) override {
    if (device.rank == failing_ && sums_left-- == 0) fail(ErrorKind::kNoRoom, "memory", "rank {} has none left", failing_);
    HostTeam::sum(device, x, count);
  }

  int sums_left = 1 << 30;

 private:
  int failing_;
};

TEST(LlamaOverRanks, AFailedRankEndsTheCallAndTheNextOneWorks) {
  const auto checkpoint = tiny_checkpoint(four_way_config(), Format::kF32);
  const std::vector<Token> tokens = random_tokens(20, 98);
  RankRig fresh(checkpoint, 4);
  const std::vector<float> expected = fresh.append(fresh.cache.add_sequence(), tokens, 20);
  for (const int failing : {0, 1, 3}) {
    auto team = std::make_unique<FailingTeam>(4, failing);
    FailingTeam& failing_team = *team;
    RankRig rig(checkpoint, 4, RankRig::one_team(std::move(team)), {});
    const int sequence = rig.cache.add_sequence();
    for (const int sums : {0, 1, 3}) {
      failing_team.sums_left = sums;
      expect_error(ErrorKind::kNoRoom, "[memory] rank " + std::to_string(failing) + " has none left",
                   [&] { rig.append(sequence, tokens, 20); });
      EXPECT_EQ(rig.cache.length(sequence), 0) << "as before";
    }
    failing_team.sums_left = 1 << 30;
    EXPECT_EQ(rig.append(sequence, tokens, 20), expected);
  }
}

TEST(LlamaOverRanks, RanksAreThoseOfTheirTeam) {
  const auto checkpoint = tiny_checkpoint(four_way_config(), Format::kF32);
  expect_error(ErrorKind::kInternal, "2 ranks are not those of the team",
               [&] { RankRig rig(checkpoint, 2, RankRig::one_team(std::make_unique<HostTeam>(3)), {}); });
}

}  // namespace
}  // namespace puna
