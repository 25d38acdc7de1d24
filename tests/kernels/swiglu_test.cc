// SPDX-License-Identifier: Apache-2.0
#include "kernels/swiglu.h"

#include "every_target.h"

#include <cmath>
#include <limits>

#include "kernels/gradient_check.h"

namespace puna {
namespace {

// silu(x) in F64, then rounded.
double silu(double x) { return x / (1 + std::exp(-x)); }

// Distance in units of the last place of the F32 nearest to `want`; subnormals have the spacing 2^-149.
double ulps(float got, double want) {
  const double spacing = std::ldexp(1.0, std::max(std::ilogb(want == 0 ? 1e-300 : want), -126) - 23);
  return std::abs(got - want) / spacing;
}

TEST(Swiglu, SiluIsWithinFourUlpEverywhere) {
  ThreadPool pool(2);
  Device device{pool};
  std::vector<float> gate;
  for (double x = -140; x < 140; x += 0.00137) gate.push_back(static_cast<float>(x));
  for (double x = 1e-38; x < 1e38; x *= 1.7) {
    gate.push_back(static_cast<float>(x));
    gate.push_back(static_cast<float>(-x));
  }
  const std::vector<float> up(gate.size(), 1.0f);
  on_every_target([&] {
    std::vector<float> out(gate.size());
    swiglu_forward(device, gate.data(), up.data(), 1, static_cast<std::int64_t>(gate.size()), out.data());
    double worst = 0;
    for (std::size_t i = 0; i < gate.size(); ++i) {
      const double error = ulps(out[i], silu(gate[i]));
      worst = std::max(worst, error);
      ASSERT_LT(error, 4) << "silu(" << gate[i] << ") = " << out[i];
    }
    RecordProperty("worst_ulp", std::to_string(worst));
  });
}

TEST(Swiglu, LimitsAreRight) {
  ThreadPool pool(1);
  Device device{pool};
  const float infinity = std::numeric_limits<float>::infinity(), largest = std::numeric_limits<float>::max();
  const std::vector<float> gate = {0, infinity, -infinity, largest, -largest, std::nanf("")}, up(gate.size(), 1.0f);
  on_every_target([&] {
    std::vector<float> out(gate.size());
    swiglu_forward(device, gate.data(), up.data(), 1, 6, out.data());
    EXPECT_EQ(out[0], 0);
    EXPECT_EQ(out[1], infinity);
    EXPECT_EQ(out[2], 0);
    EXPECT_EQ(out[3], largest);
    EXPECT_EQ(out[4], 0);
    EXPECT_TRUE(std::isnan(out[5]));
  });
}

TEST(Swiglu, EveryShapeInPlaceAndByThreadsGivesTheSameBits) {
  on_every_target([&] {
    for (const std::int64_t width : {1, 3, 15, 16, 17, 1000, 14336}) {
      const std::int64_t rows = 3;
      const auto gate = normal_values(rows * width, 1, 4), up = normal_values(rows * width, 2);
      std::vector<float> first;
      for (const int threads : {1, 2, 3}) {
        ThreadPool pool(threads);
        Device device{pool};
        auto out = gate;
        swiglu_forward(device, out.data(), up.data(), rows, width, out.data());
        if (threads == 1) first = out;
        EXPECT_EQ(out, first) << threads << " threads, width " << width;
      }
      for (std::size_t i = 0; i < gate.size(); ++i) {
        const double want = silu(gate[i]) * up[i];
        ASSERT_NEAR(first[i], want, 5e-7 * std::abs(want) + 1e-44) << i;
      }
    }
  });
}

struct SwigluOracle {
  Doubles out, dgate, dup;
};
SwigluOracle swiglu(const Doubles& gate, const Doubles& up, const Doubles& dout) {
  SwigluOracle result;
  for (std::size_t i = 0; i < gate.size(); ++i) {
    const double s = 1 / (1 + std::exp(-gate[i])), rest = 1 / (1 + std::exp(gate[i]));
    result.out.push_back(gate[i] * s * up[i]);
    result.dgate.push_back(dout[i] * up[i] * s * (1 + gate[i] * rest));
    result.dup.push_back(dout[i] * gate[i] * s);
  }
  return result;
}

TEST(Swiglu, TheOraclesGradientIsTheSlope) {
  const Doubles gate = as_doubles(normal_values(20, 21, 3)), up = as_doubles(normal_values(20, 22)),
                c = as_doubles(normal_values(20, 23));
  const SwigluOracle oracle = swiglu(gate, up, c);
  expect_finite_differences([&](const Doubles& at) { return weighted_sum(c, swiglu(at, up, c).out); }, gate, oracle.dgate, "gate");
  expect_finite_differences([&](const Doubles& at) { return weighted_sum(c, swiglu(gate, at, c).out); }, up, oracle.dup, "up");
}

TEST(Swiglu, GradientsEqualTheOracleInPlaceAndByThreads) {
  for (const std::int64_t width : {1, 15, 17, 5000}) {
    const std::int64_t rows = 3;
    const auto gate = normal_values(rows * width, 24, 8), up = normal_values(rows * width, 25),
               dout = normal_values(rows * width, 26);
    const SwigluOracle want = swiglu(as_doubles(gate), as_doubles(up), as_doubles(dout));
    on_every_target([&] {
      std::vector<float> first;
      for (const int threads : {1, 2, 3}) {
        ThreadPool pool(threads);
        Device device{pool};
        auto dgate = dout, dup = up;  // in the places of dout and up
        swiglu_backward(device, {gate.data(), dup.data(), dgate.data(), dgate.data(), dup.data()}, rows, width);
        EXPECT_LE(relative_error(dgate, want.dgate), 1e-6);
        EXPECT_LE(relative_error(dup, want.dup), 1e-6);
        if (threads == 1) first = dgate;
        EXPECT_EQ(dgate, first);
        auto other = gate;  // in the place of gate
        swiglu_backward(device, {other.data(), up.data(), dout.data(), other.data(), dup.data()}, rows, width);
        EXPECT_EQ(other, first);
      }
    });
  }
}

TEST(Swiglu, GradientsOfLargeGatesAreZeroOrOne) {
  ThreadPool pool(1);
  Device device{pool};
  on_every_target([&] {
    const std::vector<float> gate = {-1e30f, -200, 200, 1e30f}, ones(4, 1.0f);
    std::vector<float> dgate(4), dup(4);
    swiglu_backward(device, {gate.data(), ones.data(), ones.data(), dgate.data(), dup.data()}, 1, 4);
    EXPECT_EQ(dgate, (std::vector<float>{0, 0, 1, 1}));
    EXPECT_EQ(dup, (std::vector<float>{0, 0, 200, 1e30f}));
  });
}

}  // namespace
}  // namespace puna
