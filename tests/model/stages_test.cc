// SPDX-License-Identifier: Apache-2.0
// Which layers each stage has, and that together they are the network.
#include "model/stages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/as_size.h"
#include "expect_error.h"
#include "model/adapter_fixture.h"
#include "model/built_in.h"
#include "model/rank_share.h"
#include "model/tiny_checkpoint.h"

namespace puna {
namespace {

using Bounds = std::vector<std::int64_t>;

ModelConfig deep_config(std::int64_t layers) {
  ModelConfig config = tiny_config();
  config.layers = layers;
  return config;
}

// Of the shape's matrices in BF16 there are no bytes.
std::shared_ptr<Checkpoint> outline(const ModelConfig& config) {
  auto checkpoint = std::make_shared<Checkpoint>();
  checkpoint->config = config;
  checkpoint->where = "outline";
  checkpoint->weights.layers.resize(static_cast<std::size_t>(config.layers));
  for (const WeightRoleInfo& role : weight_roles()) {
    for (std::int64_t layer = 0; layer < (role.per_layer ? config.layers : 1); ++layer) {
      Tensor& tensor = checkpoint->weights.at(role.role, layer);
      tensor.shape = weight_shape(config, role.role);
      tensor.format = tensor.shape.rank() == 1 ? Format::kF32 : Format::kBF16;
    }
  }
  return checkpoint;
}

TEST(Stages, AreAsEqualInBytesAsLayersAllow) {
  EXPECT_EQ(stage_bounds(*outline(deep_config(6)), 1), (Bounds{0, 6}));
  EXPECT_EQ(stage_bounds(*outline(deep_config(6)), 6), (Bounds{0, 1, 2, 3, 4, 5, 6}));
  // A layer of 8B has 218 million numbers, the embedding and the output matrix 525 million each: two and a half layers.
  const auto model = outline(known_shape("8b").value());
  EXPECT_EQ(stage_bounds(*model, 2), (Bounds{0, 16, 32}));
  EXPECT_EQ(stage_bounds(*model, 3), (Bounds{0, 10, 22, 32}));
  EXPECT_EQ(stage_bounds(*model, 4), (Bounds{0, 7, 16, 25, 32}));
  EXPECT_EQ(most_layers(*model, 4), 9);
  EXPECT_EQ(most_layers(*model, 1), 32);
  // Of 1B they have as much as four of the sixteen layers each, and a stage has one at least.
  const Bounds bounds = stage_bounds(*outline(known_shape("1b").value()), 8);
  EXPECT_EQ(bounds[1], 1);
  EXPECT_EQ(bounds[7], 15);
  for (std::size_t stage = 1; stage < 7; ++stage) EXPECT_THAT(bounds[stage + 1] - bounds[stage], testing::AnyOf(2, 3)) << stage;
  expect_error(ErrorKind::kInternal, "3 stages of 2 layers", [&] { stage_bounds(*outline(deep_config(2)), 3); });
}

TEST(Stages, TogetherAreTheNetwork) {
  for (const Format format : {Format::kF32, Format::kQ4_K}) {
    const std::shared_ptr<const Checkpoint> whole = tiny_checkpoint(deep_config(5), format);
    EXPECT_EQ(first_difference(*stages_of(*whole, 1).front(), *whole), "");
    const auto stages = stages_of(*whole, 3);
    ASSERT_EQ(stages.size(), 3u);
    std::int64_t bytes = 0;
    Checkpoint joined = *stages[0];
    joined.weights.layers.clear();
    for (const auto& stage : stages) {
      EXPECT_EQ(static_cast<std::int64_t>(stage->weights.layers.size()), stage->config.layers);
      for (const LayerWeights& layer : stage->weights.layers) joined.weights.layers.push_back(layer);
      bytes += stage->weight_bytes;
    }
    joined.config.layers = 5;
    joined.weights.output_norm = stages[2]->weights.output_norm;
    joined.weights.output = stages[2]->weights.output;
    EXPECT_EQ(first_difference(joined, *whole), "");
    EXPECT_EQ(bytes, whole->weight_bytes);
    for (const std::size_t stage : {1, 2}) EXPECT_EQ(stages[stage]->weights.token_embedding.shape, (Shape{0, 256}));
    for (const std::size_t stage : {0, 1}) {
      EXPECT_EQ(stages[stage]->weights.output.shape, (Shape{0, 256}));
      EXPECT_EQ(stages[stage]->weights.output_norm.shape, Shape{0});
    }
  }
}

TEST(Stages, TiedEmbeddingsAreInTheFirstAndTheLast) {
  const std::shared_ptr<const Checkpoint> nano = open_checkpoint(kBuiltInPath);
  ASSERT_TRUE(nano->config.tied_embeddings);
  EXPECT_TRUE(stages_of(*nano, 1).front()->config.tied_embeddings);
  const auto stages = stages_of(*nano, 2);
  EXPECT_FALSE(stages[0]->config.tied_embeddings);
  EXPECT_EQ(stages[0]->weights.token_embedding.bytes.data(), nano->weights.token_embedding.bytes.data());
  EXPECT_EQ(stages[1]->weights.output.bytes.data(), nano->weights.token_embedding.bytes.data());
}

TEST(Stages, WhatDoesNotDivideIsRefusedWithFigures) {
  const auto checkpoint = tiny_checkpoint(deep_config(3), Format::kF32);
  check_shares(*checkpoint, 1, 3);
  check_shares(*checkpoint, 2, 3);
  expect_error(ErrorKind::kUnsupported, "[tiny] 3 layers do not divide into 4 stages: give --pipeline 3 or less",
               [&] { check_shares(*checkpoint, 1, 4); });
  expect_error(ErrorKind::kUnsupported, "do not split over 3 devices: use 1 or 2, or divide its layers: --pipeline 3",
               [&] { check_shares(*checkpoint, 3); });
}

TEST(Stages, AdaptersGoWithTheirLayers) {
  const auto checkpoint = tiny_checkpoint(deep_config(3), Format::kF32);
  const std::shared_ptr<const AdapterSet> set = random_adapters(checkpoint->config, 4, 1, {WeightRole::kDown});
  checkpoint->adapters = set->layers;
  const auto stages = stages_of(*checkpoint, 2);
  const auto parts = stages_of(set, stages);
  std::size_t layer = 0;
  for (std::size_t stage = 0; stage < 2; ++stage) {
    ASSERT_EQ(stages[stage]->adapters.size(), as_size(stages[stage]->config.layers));
    ASSERT_EQ(parts[stage]->layers.size(), stages[stage]->adapters.size());
    for (std::size_t l = 0; l < parts[stage]->layers.size(); ++l, ++layer) {
      const std::byte* const whole = set->layers[layer].at(WeightRole::kDown).a.bytes.data();
      EXPECT_EQ(parts[stage]->layers[l].at(WeightRole::kDown).a.bytes.data(), whole);
      EXPECT_EQ(stages[stage]->adapters[l].at(WeightRole::kDown).a.bytes.data(), whole);
    }
  }
  EXPECT_EQ(layer, 3u);
}

}  // namespace
}  // namespace puna
