// SPDX-License-Identifier: Apache-2.0
// AdamW over whole models; its runs against PyTorch are in golden_test.cc.
#include "train/optimizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "base/random.h"
#include "expect_error.h"
#include "model/tiny_checkpoint.h"
#include "train/golden_case.h"

namespace puna {
namespace {

class AdamwTest : public testing::Test {
 protected:
  std::unique_ptr<Parameters> parameters() {
    return std::make_unique<Parameters>(tiny_checkpoint(tiny_config(), Format::kF32), TrainChoice{}, device_);
  }
  static void draw_gradients(Parameters& parameters, std::uint64_t step) {
    for (Parameter& parameter : parameters.all()) {
      for (std::size_t i = 0; i < parameter.gradient.size(); ++i) {
        parameter.gradient[i] = static_cast<float>(0.02 * random_uniform(step, std::hash<std::string>{}(parameter.name), i) - 0.01);
      }
    }
  }
  static std::vector<float> flat(const Parameters& parameters) {
    std::vector<float> values;
    for (const Parameter& parameter : parameters.all()) {
      values.insert(values.end(), parameter.value.begin(), parameter.value.end());
    }
    return values;
  }

  ThreadPool pool_{2};
  Device device_{pool_};
};

TEST_F(AdamwTest, TheNormIsThatOfAllGradients) {
  const auto model = parameters();
  AdamW optimizer(*model, {}, device_);
  model->find("model.norm.weight").gradient[3] = 3;
  model->find("model.embed_tokens.weight").gradient[7] = -4;
  EXPECT_DOUBLE_EQ(optimizer.gradient_norm(), 5);
  model->find("lm_head.weight").gradient[0] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(optimizer.gradient_norm()));
}

TEST_F(AdamwTest, OnlyMatricesDecay) {
  const auto model = parameters();
  AdamW optimizer(*model, {.decay = 0.5}, device_);
  const std::vector<float> norm(model->find("model.norm.weight").value.begin(), model->find("model.norm.weight").value.end());
  const float weight = model->find("lm_head.weight").value[5];
  optimizer.step(0.1, optimizer.gradient_norm());
  EXPECT_TRUE(std::ranges::equal(model->find("model.norm.weight").value, norm));
  EXPECT_FLOAT_EQ(model->find("lm_head.weight").value[5], weight * 0.95f);
}

TEST_F(AdamwTest, StatesOfEveryParameterContinueARun) {
  for (const bool eight_bit : {false, true}) {
    const auto one = parameters(), two = parameters();
    AdamW whole(*one, {.eight_bit = eight_bit}, device_), begun(*two, {.eight_bit = eight_bit}, device_);
    for (std::uint64_t step = 0; step < 3; ++step) {
      draw_gradients(*one, step);
      whole.step(1e-3, whole.gradient_norm());
    }
    draw_gradients(*two, 0);
    begun.step(1e-3, begun.gradient_norm());
    AdamW resumed(*two, {.eight_bit = eight_bit}, device_);
    const std::span<const AdamW::State> from = begun.state(), to = resumed.state();
    ASSERT_EQ(from.size(), to.size());
    for (std::size_t i = 0; i < from.size(); ++i) {
      EXPECT_EQ(from[i].name, to[i].name);
      std::ranges::copy(from[i].bytes, to[i].bytes.begin());
    }
    resumed.set_steps(begun.steps());
    for (std::uint64_t step = 1; step < 3; ++step) {
      draw_gradients(*two, step);
      resumed.step(1e-3, resumed.gradient_norm());
    }
    EXPECT_EQ(flat(*one), flat(*two)) << "eight_bit " << eight_bit;
  }
}

TEST_F(AdamwTest, StatesHaveNamesAndTheBytesThatWerePlanned) {
  const auto model = parameters();
  AdamW plain(*model, {}, device_), small(*model, {.eight_bit = true}, device_);
  EXPECT_EQ(plain.state().size(), 2 * model->all().size());
  const auto bytes = [](AdamW& optimizer, std::string_view name) {
    std::size_t count = 0;
    for (const AdamW::State& state : optimizer.state()) count += state.name == name ? state.bytes.size() : 0;
    return count;
  };
  EXPECT_EQ(bytes(plain, "v.lm_head.weight"), 96u * 256 * 4);
  EXPECT_EQ(bytes(small, "v.lm_head.weight"), 96u * 256);
  EXPECT_EQ(bytes(small, "m_scale.lm_head.weight"), 96u * 4);
  EXPECT_EQ(bytes(small, "m.model.norm.weight"), 256u * 4) << "norms keep F32";
  std::size_t total = 0;
  for (const AdamW::State& state : small.state()) total += Arena::padded(state.bytes.size());
  EXPECT_EQ(AdamW::bytes(tiny_config(), {}, true), static_cast<std::int64_t>(total));
  EXPECT_LT(AdamW::bytes(tiny_config(), {}, true) * 3, AdamW::bytes(tiny_config(), {}, false));
}

TEST_F(AdamwTest, EightBitStatesStayNearF32) {
  const auto one = parameters(), two = parameters();
  const std::vector<float> start = flat(*one);
  AdamW plain(*one, {.decay = 0}, device_), small(*two, {.decay = 0, .eight_bit = true}, device_);
  for (std::uint64_t step = 0; step < 12; ++step) {
    for (const auto& model : {one.get(), two.get()}) draw_gradients(*model, step);
    plain.step(1e-3, plain.gradient_norm());
    small.step(1e-3, small.gradient_norm());
  }
  const std::vector<float> a = flat(*one), b = flat(*two);
  double moved = 0, apart = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    moved += std::pow(static_cast<double>(a[i]) - static_cast<double>(start[i]), 2);
    apart += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
  }
  EXPECT_LT(std::sqrt(apart / moved), 0.1);
  EXPECT_GT(apart, 0);
}

TEST_F(AdamwTest, RefusesFiguresOutsideTheirRanges) {
  const auto model = parameters();
  const auto refuse = [&](const AdamwOptions& options, std::string_view message) {
    expect_error(ErrorKind::kUsage, message, [&] { AdamW(*model, options, device_); });
  };
  refuse({.beta1 = 1}, "[optimizer.beta1] 1 found, expected 0 or more and less than 1");
  refuse({.eps = 0}, "[optimizer.eps] 0 found, expected a number above 0");
  refuse({.decay = -0.1}, "[optimizer.weight_decay] -0.1 found, expected 0 or more");
  refuse({.clip = std::numeric_limits<double>::infinity()}, "[optimizer.clip] inf found");
}

}  // namespace
}  // namespace puna
