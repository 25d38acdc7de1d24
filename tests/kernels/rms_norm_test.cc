// SPDX-License-Identifier: Apache-2.0
#include "kernels/rms_norm.h"

#include "every_target.h"

#include <cmath>

#include "kernels/gradient_check.h"

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

// In F64: y, and the gradients of sum dy y.
struct NormOracle {
  Doubles y, dx, dweight;
};
NormOracle norm(const Doubles& x, const Doubles& weight, const Doubles& dy, double eps) {
  const std::size_t width = weight.size();
  NormOracle result{Doubles(x.size()), Doubles(x.size()), Doubles(width)};
  for (std::size_t first = 0; first < x.size(); first += width) {
    double squares = 0, products = 0;
    for (std::size_t i = 0; i < width; ++i) squares += x[first + i] * x[first + i];
    const double r = 1 / std::sqrt(squares / static_cast<double>(width) + eps);
    for (std::size_t i = 0; i < width; ++i) {
      result.y[first + i] = weight[i] * x[first + i] * r;
      products += weight[i] * dy[first + i] * x[first + i];
      result.dweight[i] += dy[first + i] * x[first + i] * r;
    }
    for (std::size_t i = 0; i < width; ++i) {
      result.dx[first + i] = r * weight[i] * dy[first + i] - r * r * r * x[first + i] * products / static_cast<double>(width);
    }
  }
  return result;
}

TEST(RmsNorm, TheOraclesGradientIsTheSlope) {
  const Doubles x = as_doubles(normal_values(33, 11)), weight = as_doubles(normal_values(11, 12)),
                c = as_doubles(normal_values(33, 13));
  const NormOracle oracle = norm(x, weight, c, 0.3);
  expect_finite_differences([&](const Doubles& at) { return weighted_sum(c, norm(at, weight, c, 0.3).y); }, x, oracle.dx, "x");
  expect_finite_differences([&](const Doubles& at) { return weighted_sum(c, norm(x, at, c, 0.3).y); }, weight, oracle.dweight,
                            "weight");
}

TEST(RmsNorm, GradientsAreAddedAndEqualTheOracle) {
  for (const std::int64_t rows : {1, 63, 64, 65, 200}) {
    for (const std::int64_t width : {1, 7, 192, 513, 2048}) {
      const auto x = normal_values(rows * width, 14, 3), weight = normal_values(width, 15), dy = normal_values(rows * width, 16);
      NormOracle want = norm(as_doubles(x), as_doubles(weight), as_doubles(dy), static_cast<double>(1e-5f));
      if (width == 1)
        std::fill(want.dx.begin(), want.dx.end(), 0.0);  // the norm of one value is its sign: what is left is rounding
      on_every_target([&] {
        std::vector<std::vector<float>> results;
        for (const int threads : {1, 2, 3}) {
          ThreadPool pool(threads);
          Device device{pool};
          std::vector<float> dx(x.size()), dweight(weight.size(), 0.0f);
          const auto gradient = [&](float* where) {
            return RmsNormGradient{x.data(), weight.data(), dy.data(), 1e-5f, dx.data(), where};
          };
          rms_norm_backward(device, gradient(dweight.data()), rows, width);
          EXPECT_LE(relative_error(dweight, want.dweight), 1e-6) << rows << " x " << width;
          if (width > 1) {
            EXPECT_LE(relative_error(dx, want.dx), 1e-6) << rows << " x " << width;
          }
          const auto once = dx, once_weight = dweight;
          rms_norm_backward(device, gradient(nullptr), rows, width);
          for (std::size_t i = 0; i < dx.size(); ++i) ASSERT_NEAR(dx[i], 2 * once[i], 1e-6f * (1 + std::abs(once[i]))) << i;
          EXPECT_EQ(dweight, once_weight);
          dx.insert(dx.end(), dweight.begin(), dweight.end());
          results.push_back(dx);
        }
        EXPECT_EQ(results[0], results[1]);
        EXPECT_EQ(results[0], results[2]);
      });
    }
  }
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
