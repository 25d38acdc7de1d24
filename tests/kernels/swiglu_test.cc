// SPDX-License-Identifier: Apache-2.0
#include "kernels/swiglu.h"

#include "every_target.h"

#include <cmath>
#include <limits>

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

}  // namespace
}  // namespace puna
