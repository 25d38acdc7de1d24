// SPDX-License-Identifier: Apache-2.0
#include "kernels/rms_norm.h"

#include "every_target.h"

#include <cmath>

namespace puna {
namespace {

double expected(const float* x, const float* weight, double eps, std::int64_t width, std::int64_t i) {
  double squares = 0;
  for (std::int64_t j = 0; j < width; ++j) squares += static_cast<double>(x[j]) * x[j];
  return static_cast<double>(weight[i]) * x[i] / std::sqrt(squares / static_cast<double>(width) + eps);
}

TEST(RmsNorm, EqualsTheFormulaForEveryWidth) {
  ThreadPool pool(2);
  Device device{pool};
  on_every_target([&] {
    for (const std::int64_t width : {1, 2, 7, 16, 31, 64, 100, 511, 512, 513, 2048, 4096, 16384}) {
      const std::int64_t rows = 5;
      const auto x = normal_values(rows * width, 1, 3), weight = normal_values(width, 2);
      std::vector<float> y(x.size());
      rms_norm_forward(device, x.data(), weight.data(), 1e-5f, rows, width, y.data());
      for (std::int64_t t = 0; t < rows; ++t) {
        for (std::int64_t i = 0; i < width; ++i) {
          const double want = expected(x.data() + t * width, weight.data(), 1e-5f, width, i);
          ASSERT_NEAR(y[t * width + i], want, 3e-7 * std::abs(want)) << "width " << width << " row " << t << " at " << i;
        }
      }
    }
  });
}

TEST(RmsNorm, TinyAndLargeRowsStayFinite) {
  ThreadPool pool(1);
  Device device{pool};
  on_every_target([&] {
    const std::vector<float> weight(256, 1.0f);
    std::vector<float> zeros(256, 0.0f), large(256, 1e17f), tiny(256, 1e-25f);
    rms_norm_forward(device, zeros.data(), weight.data(), 1e-5f, 1, 256, zeros.data());
    rms_norm_forward(device, large.data(), weight.data(), 1e-5f, 1, 256, large.data());
    rms_norm_forward(device, tiny.data(), weight.data(), 1e-5f, 1, 256, tiny.data());
    for (int i = 0; i < 256; ++i) {
      EXPECT_EQ(zeros[i], 0.0f);
      EXPECT_NEAR(large[i], 1.0f, 1e-6f);
      EXPECT_NEAR(tiny[i], 1e-25f / std::sqrt(1e-5f), 1e-28f);
    }
  });
}

TEST(RmsNorm, ThreadsAndPlaceDoNotChangeBits) {
  const std::int64_t rows = 37, width = 1030;
  const auto x = normal_values(rows * width, 3), weight = normal_values(width, 4);
  on_every_target([&] {
    std::vector<std::vector<float>> results;
    for (const int threads : {1, 2, 3}) {
      ThreadPool pool(threads);
      Device device{pool};
      results.push_back(x);
      rms_norm_forward(device, results.back().data(), weight.data(), 1e-6f, rows, width, results.back().data());  // in place
    }
    std::vector<float> alone(width);
    ThreadPool pool(1);
    Device device{pool};
    rms_norm_forward(device, x.data() + 20 * width, weight.data(), 1e-6f, 1, width, alone.data());
    EXPECT_EQ(results[0], results[1]);
    EXPECT_EQ(results[0], results[2]);
    EXPECT_EQ(alone, std::vector<float>(results[0].begin() + 20 * width, results[0].begin() + 21 * width));
  });
}

TEST(Add, AddsEveryElement) {
  ThreadPool pool(3);
  Device device{pool};
  on_every_target([&] {
    for (const std::int64_t width : {1, 5, 64, 9001}) {
      const auto x = normal_values(3 * width, 5), delta = normal_values(3 * width, 6);
      auto sum = x;
      add_forward(device, sum.data(), delta.data(), 3, width);
      for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(sum[i], x[i] + delta[i]) << i;
    }
  });
}

}  // namespace
}  // namespace puna
