// SPDX-License-Identifier: Apache-2.0
#include "model/config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <numbers>

#include "checkpoint_fixture.h"

namespace puna {
namespace {

// Published parameter counts.
TEST(Config, KnownShapesHaveThePublishedParameterCounts) {
  EXPECT_EQ(known_shape("1b")->parameters(), 1'235'814'400);
  EXPECT_EQ(known_shape("3b")->parameters(), 3'212'749'824);
  EXPECT_EQ(known_shape("8b")->parameters(), 8'030'261'248);
  EXPECT_EQ(known_shape("70b")->parameters(), 70'553'706'496);
  EXPECT_EQ(known_shape("405b")->parameters(), 405'853'388'800);
  EXPECT_FALSE(known_shape("8B "));
  for (const char* name : {"1b", "3b", "8b", "70b", "405b"}) EXPECT_NO_THROW(check_config(*known_shape(name), name));
}

// Worked out with Python's floats from the formula in llama-models.
TEST(Config, Llama31FrequenciesAreThePublishedOnes) {
  const std::vector<double> f = rope_frequencies(*known_shape("8b"));
  ASSERT_EQ(f.size(), 64u);
  const std::pair<int, double> expected[] = {{0, 1.0},
                                             {1, 0.8146172338565447},
                                             {20, 0.016560440080994446},
                                             {28, 0.003211445994752591},   // wavelength 1,956: kept
                                             {29, 0.002166570763503359},   // 2,402: between
                                             {35, 9.556212353964683e-05},  // 8,219: divided by 8
                                             {63, 3.068925988914511e-07}};
  for (const auto& [p, value] : expected) EXPECT_NEAR(f[static_cast<std::size_t>(p)] / value, 1, 1e-12) << p;
}

TEST(Config, PlainLinearAndDividedFrequencies) {
  ModelConfig config = *known_shape("8b");
  config.rope_scaling.reset();
  const std::vector<double> plain = rope_frequencies(config);
  EXPECT_NEAR(plain[63] / 2.455140791131609e-06, 1, 1e-12);
  config.rope_linear_factor = 4;
  EXPECT_DOUBLE_EQ(rope_frequencies(config)[10], plain[10] / 4);
  config.rope_linear_factor = 1;
  config.rope_divisors.assign(64, 2.0f);
  EXPECT_DOUBLE_EQ(rope_frequencies(config)[10], plain[10] / 2);
}

// At both borders the pieces of the scaling meet.
TEST(Config, ScalingIsContinuous) {
  ModelConfig config = *known_shape("8b");
  for (const double wavelength : {2048.0, 8192.0}) {
    double values[2];
    for (const int side : {0, 1}) {  // pair 1 of a head of width 4 turns by theta^(-1/2)
      config.head_width = 4;
      const double f = 2 * std::numbers::pi / (wavelength * (side == 0 ? 1 - 1e-9 : 1 + 1e-9));
      config.rope_theta = 1 / (f * f);
      values[side] = rope_frequencies(config)[1];
    }
    EXPECT_NEAR(values[0] / values[1], 1, 1e-7) << wavelength;
  }
}

TEST(Config, FiguresNoNetworkCanHaveAreRefusedByName) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<std::tuple<ErrorKind, std::string, std::function<void(ModelConfig&)>>> cases = {
      {ErrorKind::kBadInput, "the number of layers is 0", [](auto& c) { c.layers = 0; }},
      {ErrorKind::kBadInput, "the model width is -4096", [](auto& c) { c.width = -4096; }},
      {ErrorKind::kBadInput, "32 attention heads do not divide over 5 key/value heads", [](auto& c) { c.kv_heads = 5; }},
      {ErrorKind::kBadInput, "the head width is 127, expected an even number", [](auto& c) { c.head_width = 127; }},
      {ErrorKind::kBadInput, "the vocabulary size is 0", [](auto& c) { c.vocabulary = 0; }},
      {ErrorKind::kBadInput, "the norm epsilon is nan", [=](auto& c) { c.norm_eps = nan; }},
      {ErrorKind::kBadInput, "the norm epsilon is -1", [](auto& c) { c.norm_eps = -1; }},
      {ErrorKind::kBadInput, "the RoPE base (rope_theta) is 0", [](auto& c) { c.rope_theta = 0; }},
      {ErrorKind::kBadInput, "the RoPE scaling factor is nan", [=](auto& c) { c.rope_scaling->factor = nan; }},
      {ErrorKind::kBadInput, "high_freq_factor is 1, expected more than",
       [](auto& c) { c.rope_scaling->high_frequency_factor = 1; }},
      {ErrorKind::kBadInput, "original context of the RoPE scaling is 0", [](auto& c) { c.rope_scaling->original_context = 0; }},
      {ErrorKind::kBadInput, "are 3, expected half the head width, 64",
       [](auto& c) {
         c.rope_divisors = {1, 1, 1};
       }},
      {ErrorKind::kBadInput, "a RoPE frequency divisor (rope_freqs) is 0", [](auto& c) { c.rope_divisors.assign(64, 0.0f); }},
      {ErrorKind::kUnsupported, "the number of layers is 1000000000; the largest", [](auto& c) { c.layers = 1'000'000'000; }},
      {ErrorKind::kUnsupported, "the feed-forward width is 9223372036854775807; the largest",
       [](auto& c) { c.feed_forward = std::numeric_limits<std::int64_t>::max(); }},
      {ErrorKind::kUnsupported, "heads times head width is", [](auto& c) { c.heads = 1 << 20, c.head_width = 1 << 20; }},
  };
  for (const auto& [kind, text, change] : cases) {
    ModelConfig config = *known_shape("8b");
    change(config);
    expect_error(kind, text, [&] { check_config(config, "config.json"); });
    expect_error(kind, "[config.json] ", [&] { check_config(config, "config.json"); });
  }
}

}  // namespace
}  // namespace puna
