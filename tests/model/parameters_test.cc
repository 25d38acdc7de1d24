// SPDX-License-Identifier: Apache-2.0
#include "model/parameters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "expect_error.h"
#include "model/gradient_pass.h"
#include "model/ranked_parameters.h"
#include "model/tiny_checkpoint.h"

namespace puna {
namespace {

using testing::Contains;
using testing::ElementsAre;

std::vector<std::string> names(const Parameters& parameters) {
  std::vector<std::string> names;
  for (const Parameter& parameter : parameters.all()) names.push_back(parameter.name);
  return names;
}

std::vector<float> values(const Parameter& parameter) { return {parameter.value.begin(), parameter.value.end()}; }

struct Spread {
  double mean = 0, deviation = 0, largest = 0;
};
Spread spread(std::span<const float> values) {
  Spread result;
  double squares = 0;
  for (const float value : values) {
    result.mean += value;
    squares += static_cast<double>(value) * static_cast<double>(value);
    result.largest = std::max(result.largest, std::fabs(static_cast<double>(value)));
  }
  result.mean /= static_cast<double>(values.size());
  result.deviation = std::sqrt(squares / static_cast<double>(values.size()) - result.mean * result.mean);
  return result;
}

class ParametersTest : public testing::Test {
 protected:
  ThreadPool pool_{2};
  Device device_{pool_};
};

TEST_F(ParametersTest, HoldTheCheckpointsWeightsUnderHuggingFacesNames) {
  const auto checkpoint = tiny_checkpoint(tiny_config(), Format::kQ8_0);
  Parameters parameters(checkpoint, {}, device_);
  EXPECT_EQ(parameters.all().size(), 2u * 9 + 3);
  EXPECT_EQ(RankedParameters(parameters).count(), checkpoint->config.parameters());
  const Parameter& up = parameters.find("model.layers.1.mlp.up_proj.weight");
  EXPECT_EQ(up.shape, (Shape{512, 256}));
  EXPECT_TRUE(up.decays);
  std::vector<float> row(256);
  decode_row(checkpoint->weights.layers[1].up, 3, row.data());
  EXPECT_TRUE(std::equal(row.begin(), row.end(), up.value.begin() + 3 * 256));
  EXPECT_FALSE(parameters.find("model.norm.weight").decays);
  EXPECT_EQ(parameters.weights().layers[1].up.bytes.data(), reinterpret_cast<const std::byte*>(up.value.data()));
  expect_error(ErrorKind::kInternal, "model.nothing is not among what is trained", [&] { parameters.find("model.nothing"); });
}

TEST_F(ParametersTest, WhatDecaysLiesSideBySide) {
  Parameters parameters(tiny_checkpoint(tiny_config(), Format::kF32), {}, device_);
  const float *last_decaying = nullptr, *first_other = nullptr;
  for (const Parameter& parameter : parameters.all()) {
    if (parameter.decays) last_decaying = std::max(last_decaying, static_cast<const float*>(parameter.value.data()));
    if (!parameter.decays && (first_other == nullptr || parameter.value.data() < first_other)) first_other = parameter.value.data();
    EXPECT_EQ(parameter.value.size(), parameter.gradient.size());
    const auto arena = parameters.gradient_arena();
    EXPECT_GE(parameter.gradient.data(), arena.data());
    EXPECT_LE(parameter.gradient.data() + parameter.gradient.size(), arena.data() + arena.size());
  }
  EXPECT_LT(last_decaying, first_other);
}

TEST_F(ParametersTest, TiedEmbeddingsAreOne) {
  ModelConfig config = tiny_config();
  config.tied_embeddings = true;
  Parameters parameters(tiny_checkpoint(config, Format::kF32), {}, device_);
  EXPECT_THAT(names(parameters), testing::Not(Contains("lm_head.weight")));
  EXPECT_EQ(parameters.weights().output.bytes.data(), parameters.weights().token_embedding.bytes.data());
  EXPECT_EQ(parameters.gradients().output, parameters.gradients().token_embedding);
  EXPECT_EQ(parameters.gradients().output, parameters.find("model.embed_tokens.weight").gradient.data());
}

TEST_F(ParametersTest, AdaptersHavePeftsNamesAndBeginAtNothing) {
  TrainChoice choice{.trained = Trained::kAdapters};
  choice.lora = {.rank = 4, .alpha = 32, .roles = {WeightRole::kQuery, WeightRole::kDown}};
  const auto checkpoint = tiny_checkpoint(tiny_config(), Format::kQ4_K);
  Parameters parameters(checkpoint, choice, device_);
  const std::string layer = "base_model.model.model.layers.0.";
  std::vector<std::string> first = names(parameters);
  EXPECT_EQ(first.size(), 8u);
  first.resize(4);
  EXPECT_THAT(first, ElementsAre(layer + "self_attn.q_proj.lora_A.weight", layer + "self_attn.q_proj.lora_B.weight",
                                 layer + "mlp.down_proj.lora_A.weight", layer + "mlp.down_proj.lora_B.weight"));
  const Parameter& a = parameters.find(layer + "mlp.down_proj.lora_A.weight");
  EXPECT_EQ(a.shape, (Shape{4, 512}));
  const double bound = 1 / std::sqrt(512.0);
  EXPECT_LE(spread(a.value).largest, bound);
  EXPECT_NEAR(spread(a.value).deviation, bound / std::sqrt(3.0), 0.05 * bound);
  const Parameter& b = parameters.find(layer + "mlp.down_proj.lora_B.weight");
  EXPECT_EQ(b.shape, (Shape{256, 4}));
  EXPECT_EQ(spread(b.value).largest, 0);
  EXPECT_EQ(parameters.adapters()[0].at(WeightRole::kDown).scale, 8);
  EXPECT_FALSE(parameters.adapters()[1].at(WeightRole::kUp));
  EXPECT_EQ(parameters.weights().layers[0].query.format, Format::kQ4_K) << "the base stays as it lies";
  EXPECT_EQ(parameters.gradients().output, nullptr);
  EXPECT_EQ(RankedParameters(parameters).view()->adapters.size(), 2u);
}

TEST_F(ParametersTest, NewWeightsAreDrawnAsTorchtitanDoes) {
  auto empty = std::make_shared<Checkpoint>();
  empty->config = tiny_config();
  TrainChoice choice;
  choice.new_weights = true;
  choice.seed = 5;
  Parameters parameters(empty, choice, device_);
  EXPECT_NEAR(spread(parameters.find("model.embed_tokens.weight").value).deviation, 1, 0.02);
  EXPECT_NEAR(spread(parameters.find("model.layers.1.self_attn.q_proj.weight").value).deviation, 0.02, 2e-4);
  EXPECT_NEAR(spread(parameters.find("model.layers.1.mlp.down_proj.weight").value).deviation, 0.02 / 2, 1e-4);
  EXPECT_NEAR(spread(parameters.find("model.layers.0.self_attn.o_proj.weight").value).deviation, 0.02 / std::sqrt(2.0), 2e-4);
  const Spread output = spread(parameters.find("lm_head.weight").value);
  EXPECT_LE(output.largest, 3.0 / 16);
  EXPECT_NEAR(output.deviation, 0.9866 / 16, 1e-3);  // of a normal distribution cut off at 3
  EXPECT_NEAR(output.mean, 0, 2e-3);
  EXPECT_EQ(values(parameters.find("model.norm.weight")), std::vector<float>(256, 1.0f));

  ThreadPool one(1);
  Parameters again(empty, choice, Device{one});
  EXPECT_EQ(values(parameters.find("lm_head.weight")), values(again.find("lm_head.weight")));
  choice.seed = 6;
  Parameters other(empty, choice, device_);
  EXPECT_NE(values(parameters.find("lm_head.weight")), values(other.find("lm_head.weight")));
}

TEST_F(ParametersTest, RoundedCopiesFollowTheValues) {
  TrainChoice choice;
  choice.compute = Format::kBF16;
  Parameters parameters(tiny_checkpoint(tiny_config(), Format::kF32), choice, device_);
  Parameter& gate = parameters.find("model.layers.0.mlp.gate_proj.weight");
  EXPECT_EQ(parameters.weights().layers[0].gate.format, Format::kBF16);
  EXPECT_EQ(parameters.weights().layers[0].attention_norm.format, Format::kF32);
  gate.value[257] = 1.00390625f;  // between two BF16 values, the even one of which is 1
  parameters.values_changed(device_);
  std::vector<float> row(256);
  decode_row(parameters.weights().layers[0].gate, 1, row.data());
  EXPECT_EQ(row[1], 1.0f);
  EXPECT_EQ(Parameters::bytes(tiny_config(), choice) - Parameters::bytes(tiny_config(), {}),
            2 * (2 * 96 * 256 + 2 * (2 * 256 * 256 + 2 * 64 * 256 + 3 * 512 * 256)));
}

TEST_F(ParametersTest, ExtraParametersAreTrainedBesideAnything) {
  TrainChoice choice{.trained = Trained::kNothing};
  choice.extra = {{"score.weight", Shape{1, 256}, 0.5, false}};
  Parameters parameters(tiny_checkpoint(tiny_config(), Format::kQ6_K), choice, device_);
  EXPECT_THAT(names(parameters), ElementsAre("score.weight"));
  EXPECT_NEAR(spread(parameters.find("score.weight").value).deviation, 0.5, 0.08);
}

TEST_F(ParametersTest, ZeroedGradientsAreZero) {
  Parameters parameters(tiny_checkpoint(tiny_config(), Format::kF32), {}, device_);
  std::ranges::fill(parameters.gradient_arena(), 3.0f);
  parameters.zero_gradients(device_);
  EXPECT_TRUE(std::ranges::all_of(parameters.gradient_arena(), [](float value) { return value == 0; }));
}

TEST_F(ParametersTest, SayWhatTheyRefuse) {
  const auto checkpoint = tiny_checkpoint(tiny_config(), Format::kF32);
  const auto refuse = [&](const TrainChoice& choice, std::string_view message) {
    expect_error(ErrorKind::kUsage, message, [&] { Parameters(checkpoint, choice, device_); });
  };
  TrainChoice choice{.trained = Trained::kAdapters};
  choice.lora.rank = 0;
  refuse(choice, "[lora.rank] 0 is no rank for matrices of this model: expected 1 to 256");
  choice.lora = {.alpha = -1};
  refuse(choice, "[lora.alpha] -1 found, expected a number above 0");
  choice.lora = {.roles = {}};
  refuse(choice, "[lora.targets] no matrices chosen");
  choice = {.trained = Trained::kAdapters, .new_weights = true};
  refuse(choice, "[lora] a new network has nothing to adapt");
  choice = {.compute = Format::kQ4_0};
  refuse(choice, "training computes with f32 or bf16 weights, not with q4_0");
  EXPECT_EQ(adapted_role_from_name("gate_proj"), WeightRole::kGate);
  EXPECT_EQ(adapted_role_from_name("embed_tokens"), std::nullopt);
  expect_error(ErrorKind::kInternal, "model.norm.weight carries no adapter", [] { adapter_index(WeightRole::kOutputNorm); });
}

}  // namespace
}  // namespace puna
