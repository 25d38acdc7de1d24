// SPDX-License-Identifier: Apache-2.0
// AdamW against the algorithm in F64, step after step.
#include "kernels/adamw.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/error.h"
#include "kernels/every_target.h"
#include "kernels/gradient_check.h"

namespace puna {
namespace {

AdamwStep step_of(std::int64_t step) { return {1e-2, 0.9, 0.95, 1e-8, 0.1, step, 0.5}; }

// Algorithm 2 of the paper, one tensor.
struct Oracle {
  Doubles weight, m, v;
  void update(const AdamwStep& s, const std::vector<float>& gradient) {
    for (std::size_t i = 0; i < weight.size(); ++i) {
      const double g = s.gradient_scale * gradient[i];
      m[i] = s.beta1 * m[i] + (1 - s.beta1) * g;
      v[i] = s.beta2 * v[i] + (1 - s.beta2) * g * g;
      const double mean = m[i] / (1 - std::pow(s.beta1, static_cast<double>(s.step)));
      const double square = v[i] / (1 - std::pow(s.beta2, static_cast<double>(s.step)));
      weight[i] -= s.learning_rate * (mean / (std::sqrt(square) + s.eps) + s.decay * weight[i]);
    }
  }
};

TEST(Adamw, EqualsTheAlgorithmOverStepsOnEveryTarget) {
  for (const std::int64_t count : {1, 15, 17, 40001}) {
    on_every_target([&] {
      std::vector<std::vector<float>> results;
      for (const int threads : {1, 2, 3}) {
        ThreadPool pool(threads);
        Device device{pool};
        auto weight = normal_values(count, 1);
        std::vector<float> m(weight.size(), 0.0f), v = m;
        Oracle oracle{as_doubles(weight), Doubles(weight.size()), Doubles(weight.size())};
        for (std::int64_t step = 1; step <= 20; ++step) {
          const auto gradient = normal_values(count, 100 + static_cast<std::uint64_t>(step), 0.01);
          adamw_update(device, step_of(step), weight, gradient, m, v);
          oracle.update(step_of(step), gradient);
        }
        EXPECT_LE(relative_error(weight, oracle.weight), 1e-6);
        EXPECT_LE(relative_error(m, oracle.m), 1e-6);
        EXPECT_LE(relative_error(v, oracle.v), 1e-6);
        results.push_back(weight);
      }
      EXPECT_EQ(results[0], results[1]);
      EXPECT_EQ(results[0], results[2]);
    });
  }
}

struct State8Bit {
  std::vector<std::int8_t> m;
  std::vector<std::uint8_t> v;
  std::vector<float> m_scale, v_scale;
  explicit State8Bit(std::size_t count) : m(count), v(count), m_scale((count + 255) / 256), v_scale((count + 255) / 256) {}
  Adamw8BitState spans() { return {m, v, m_scale, v_scale}; }
  double moment(std::size_t i) const { return static_cast<double>(m[i]) * m_scale[i / 256]; }
  double root(std::size_t i) const { return static_cast<double>(v[i]) * v_scale[i / 256]; }
};

// After one step from zero the states are the gradient's own, to one level of their block.
TEST(Adamw8Bit, StatesAreWithinALevelAndNoSmallVBecomesZero) {
  const std::int64_t count = 1000;
  auto gradient = normal_values(count, 2);
  for (std::size_t i = 0; i < gradient.size(); i += 10) gradient[i] = 1e-6f;
  gradient[5] = 0;
  on_every_target([&] {
    ThreadPool pool(2);
    Device device{pool};
    std::vector<float> weight(gradient.size(), 1.0f);
    State8Bit state(gradient.size());
    adamw_update(device, step_of(1), weight, gradient, state.spans());
    for (std::size_t i = 0; i < gradient.size(); ++i) {
      const double g = 0.5 * gradient[i];
      ASSERT_NEAR(state.moment(i), 0.1 * g, 1.0001 * state.m_scale[i / 256]) << i;
      ASSERT_NEAR(state.root(i), std::sqrt(0.05) * std::abs(g), 1.0001 * state.v_scale[i / 256]) << i;
      ASSERT_EQ(state.v[i] == 0, g == 0) << i;
    }
  });
}

// Rounding by chance keeps the average: with gradients of zero, m and v decay as they do in F32 although a step's decay of most
// entries is less than half a level.
TEST(Adamw8Bit, AveragesDecay) {
  const std::size_t count = 256 * 40;
  on_every_target([&] {
    ThreadPool pool(2);
    Device device{pool};
    std::vector<float> weight(count, 0.0f), gradient(count);
    for (std::size_t i = 0; i < count; ++i) gradient[i] = i % 256 == 0 ? 100.0f : 10.0f;
    State8Bit state(count);
    AdamwStep step = step_of(1);
    step.beta2 = 0.999;
    adamw_update(device, step, weight, gradient, state.spans());
    // The first of each block keeps the scale where it is.
    for (std::size_t i = 0; i < count; ++i) gradient[i] = i % 256 == 0 ? 100.0f : 0.0f;
    const auto mean = [&](auto value) {
      double sum = 0;
      for (std::size_t i = 0; i < count; ++i) sum += i % 256 == 0 ? 0 : value(i);
      return sum / (static_cast<double>(count) * 255 / 256);
    };
    const double before = mean([&](std::size_t i) { return state.root(i); });
    for (step.step = 2; step.step <= 300; ++step.step) adamw_update(device, step, weight, gradient, state.spans());
    EXPECT_NEAR(mean([&](std::size_t i) { return state.moment(i); }), 0, 1e-3);
    // The root decays by sqrt(0.999) a step; entries at the lowest level stay there.
    const double floor = state.v_scale[0];
    EXPECT_NEAR(mean([&](std::size_t i) { return state.root(i); }), std::max(before * std::pow(0.999, 149.5), floor), 0.35 * floor);
  });
}

TEST(Adamw8Bit, MinimisesLikeF32AndThreadsDoNotChangeABit) {
  const std::int64_t count = 5000;
  const auto goal = normal_values(count, 3);
  on_every_target([&] {
    const auto distance = [&](const std::vector<float>& weight) {
      double sum = 0;
      for (std::size_t i = 0; i < goal.size(); ++i) sum += (weight[i] - goal[i]) * (weight[i] - goal[i]);
      return sum / static_cast<double>(count);
    };
    std::vector<std::vector<float>> results;
    for (const int threads : {1, 2, 3}) {
      ThreadPool pool(threads);
      Device device{pool};
      std::vector<float> weight(goal.size(), 0.0f), gradient(goal.size());
      State8Bit state(goal.size());
      for (std::int64_t step = 1; step <= 400; ++step) {
        for (std::size_t i = 0; i < goal.size(); ++i) gradient[i] = weight[i] - goal[i];
        AdamwStep s = step_of(step);
        s.decay = 0;
        s.learning_rate = step < 300 ? 1e-2 : 1e-3;
        adamw_update(device, s, weight, gradient, state.spans());
      }
      EXPECT_LE(distance(weight), 1e-3);
      results.push_back(weight);
    }
    EXPECT_EQ(results[0], results[1]);
    EXPECT_EQ(results[0], results[2]);
  });
}

TEST(SumOfSquares, EqualsF64AndDoesNotDependOnThreads) {
  for (const std::int64_t count : {0, 1, 17, 5000, 100003, 1200000}) {
    const auto x = normal_values(count, 4, 3);
    double want = 0;
    for (const float value : x) want += static_cast<double>(value) * value;
    on_every_target([&] {
      std::vector<double> sums;
      for (const int threads : {1, 2, 3}) {
        ThreadPool pool(threads);
        Device device{pool};
        sums.push_back(sum_of_squares(device, x));
      }
      EXPECT_NEAR(sums[0], want, 1e-12 * want);
      EXPECT_EQ(sums[0], sums[1]);
      EXPECT_EQ(sums[0], sums[2]);
    });
  }
}

TEST(Adamw, LengthsMustMatch) {
  ThreadPool pool(1);
  Device device{pool};
  std::vector<float> four(4), three(3);
  EXPECT_THAT([&] { adamw_update(device, step_of(1), four, three, four, four); },
              testing::ThrowsMessage<Error>("[adamw] 4 weights, but a gradient or state of 3"));
  EXPECT_THAT([&] { adamw_update(device, step_of(0), four, four, four, four); },
              testing::ThrowsMessage<Error>("[adamw] step 0: the first is 1"));
}

}  // namespace
}  // namespace puna
