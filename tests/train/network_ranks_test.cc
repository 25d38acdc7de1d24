// SPDX-License-Identifier: Apache-2.0
// Networks split over ranks of the CPU against the same network on one: every gradient, put together, and losses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "train/ranked_learner.h"

namespace puna {
namespace {

// Devices of ranks on the CPU, each with threads of its own.
struct CpuTeam {
  explicit CpuTeam(int ranks) : team(ranks) {
    for (int rank = 0; rank < ranks; ++rank) {
      pools.push_back(std::make_unique<ThreadPool>(ranks <= 2 ? 2 : 1));
      devices.push_back({.pool = *pools.back(), .team = ranks > 1 ? &team : nullptr, .rank = rank});
    }
  }
  HostTeam team;
  std::vector<std::unique_ptr<ThreadPool>> pools;
  std::vector<Device> devices;
};

struct RankedCase {
  std::string name;
  Format format = Format::kF32;
  TrainChoice choice = {};
  bool tied = false;
  Keep keep = Keep::kAllActivations;
  std::string objective = "next_token";
  double tolerance = 2e-6;  // of gradients, relative to their norm
};

void expect_one_devices_gradients(const RankedCase& each) {
  const auto checkpoint = tiny_checkpoint(divided_config(each.tied), each.format);
  if (each.tied) checkpoint->weights.output = checkpoint->weights.token_embedding;
  const StepBatches step = step_of({divided_batch(0), divided_batch(1)});
  CpuTeam alone(1);
  RankedLearner one(checkpoint, each.choice, alone.devices, each.keep, each.objective);
  for (const int ranks : {2, 4}) {
    SCOPED_TRACE(each.name + ", " + std::to_string(ranks) + " ranks");
    CpuTeam team(ranks);
    RankedLearner several(checkpoint, each.choice, team.devices, each.keep, each.objective);
    expect_gradients_of_one(several, one, step, each.tolerance);
  }
}

TEST(NetworkOverRanks, GradientsOfAllWeightsAreThoseOfOneDevice) {
  expect_one_devices_gradients({.name = "untied"});
  expect_one_devices_gradients({.name = "tied", .tied = true});
  expect_one_devices_gradients({.name = "blocks run again", .keep = Keep::kBlockInputs});
}

TEST(NetworkOverRanks, RoundedWeightsAreRoundedInTheSameWay) {
  expect_one_devices_gradients({.name = "bf16", .choice = {.compute = Format::kBF16}});
}

TEST(NetworkOverRanks, GradientsOfNewWeightsAreThoseOfOneDevice) {
  expect_one_devices_gradients({.name = "new", .choice = {.new_weights = true}, .tied = true, .tolerance = 1e-5});
}

TEST(NetworkOverRanks, GradientsOfAdaptersAreThoseOfOneDevice) {
  const TrainChoice lora{.trained = Trained::kAdapters, .lora = {.rank = 3, .alpha = 6}};
  expect_one_devices_gradients({.name = "lora", .choice = lora, .tolerance = 1e-5});
  expect_one_devices_gradients(
      {.name = "lora, blocks run again", .choice = lora, .tied = true, .keep = Keep::kBlockInputs, .tolerance = 1e-5});
  // Activations are rounded to 8 bits in blocks of 32, and rounding goes another way where x is off in its last digit.
  expect_one_devices_gradients({.name = "qlora", .format = Format::kQ8_0, .choice = lora, .tolerance = 2e-2});
}

TEST(NetworkOverRanks, PreferencesAndRewardsAreThoseOfOneDevice) {
  expect_one_devices_gradients({.name = "dpo", .objective = "dpo", .tolerance = 1e-5});
  const TrainChoice lora{.trained = Trained::kAdapters, .lora = {.rank = 3, .alpha = 6}};
  expect_one_devices_gradients({.name = "dpo of adapters", .choice = lora, .objective = "dpo", .tolerance = 1e-5});
  expect_one_devices_gradients({.name = "reward of adapters", .choice = lora, .objective = "reward", .tolerance = 1e-5});
}

// 279 rows of logits would fit two ranks, which have 30,000 and 30,001 columns, and 139 one device: chunks of 256 and of 128.
TEST(NetworkOverRanks, ChunksOfRowsAreCutAlikeOnAllRanks) {
  ModelConfig config = divided_config(true);
  config.layers = 1;
  config.width = 32;
  config.heads = config.kv_heads = 2;
  config.head_width = 16;
  config.feed_forward = 64;
  config.vocabulary = 60001;
  const auto checkpoint = tiny_checkpoint(config, Format::kF32);
  checkpoint->weights.output = checkpoint->weights.token_embedding;
  PackedBatch batch;
  batch.tokens = random_tokens(300, config.vocabulary, 1);
  batch.targets = random_tokens(300, config.vocabulary, 2);
  batch.positions.resize(300);
  std::iota(batch.positions.begin(), batch.positions.end(), 0);
  batch.segments = {{0, 300}};
  batch.weights.assign(300, 1);
  CpuTeam alone(1), team(2);
  RankedLearner one(checkpoint, {}, alone.devices, Keep::kAllActivations, "next_token", 300);
  RankedLearner several(checkpoint, {}, team.devices, Keep::kAllActivations, "next_token", 300);
  expect_gradients_of_one(several, one, step_of({batch}), 1e-5);
}

TEST(NetworkOverRanks, TheViewIsTheOneDevicesWeights) {
  CpuTeam alone(1);
  for (const Format compute : {Format::kF32, Format::kBF16}) {
    const auto checkpoint = tiny_checkpoint(divided_config(false), Format::kBF16);
    const TrainChoice choice{.compute = compute};
    const RankedLearner one(checkpoint, choice, alone.devices, Keep::kAllActivations);
    for (const int ranks : {2, 4}) {
      CpuTeam team(ranks);
      const RankedLearner several(checkpoint, choice, team.devices, Keep::kAllActivations);
      EXPECT_EQ(first_difference(*several.whole->view(), *one.whole->view()), "") << ranks;
      EXPECT_EQ(several.whole->count(), one.whole->count());
      EXPECT_EQ(Parameters::host_copy_bytes(checkpoint->config, choice), several.whole->view()->weight_bytes);
    }
  }
}

}  // namespace
}  // namespace puna
