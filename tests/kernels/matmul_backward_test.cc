// SPDX-License-Identifier: Apache-2.0
// The gradients of products against plain loops in F64. The product is linear in each factor, so its gradient is checked through
// the forward product as well: c · (X W^T) = dX · X = dW · W.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "base/error.h"
#include "kernels/every_target.h"
#include "kernels/gradient_check.h"
#include "kernels/matmul.h"

namespace puna {
namespace {

struct Case {
  std::int64_t t, n, k, stride;  // T, N, K; rows of dY are `stride` apart
};

const Case kCases[] = {{1, 1, 1, 1},       {5, 3, 7, 3},         {12, 32, 64, 40},    {13, 33, 65, 33},
                       {64, 96, 256, 100}, {65, 300, 1030, 300}, {300, 70, 257, 200}, {257, 17, 2100, 17},
                       {600, 50, 40, 50},  {100, 520, 530, 520}, {530, 600, 64, 600}};

struct Values {
  std::vector<float> x, w, dy;  // [T, K], [N, K], [T, stride]
  Tensor weight;

  explicit Values(const Case& c)
      : x(normal_values(c.t * c.k, 1)), w(normal_values(c.n * c.k, 2)), dy(normal_values(c.t * c.stride, 3)) {
    weight = {"w", Format::kF32, Shape{c.n, c.k}, std::as_bytes(std::span(w)), {}};
  }
};

// dX [T, K] = dY W
Doubles input_gradient(const Case& c, const std::vector<float>& dy, const std::vector<float>& w) {
  Doubles dx(static_cast<std::size_t>(c.t * c.k));
  for (std::int64_t t = 0; t < c.t; ++t) {
    for (std::int64_t n = 0; n < c.n; ++n) {
      const double factor = dy[static_cast<std::size_t>(t * c.stride + n)];
      for (std::int64_t k = 0; k < c.k; ++k)
        dx[static_cast<std::size_t>(t * c.k + k)] += factor * w[static_cast<std::size_t>(n * c.k + k)];
    }
  }
  return dx;
}

// dW [N, K] = dY^T X
Doubles weight_gradient(const Case& c, const std::vector<float>& dy, const std::vector<float>& x) {
  Doubles dw(static_cast<std::size_t>(c.n * c.k));
  for (std::int64_t t = 0; t < c.t; ++t) {
    for (std::int64_t n = 0; n < c.n; ++n) {
      const double factor = dy[static_cast<std::size_t>(t * c.stride + n)];
      for (std::int64_t k = 0; k < c.k; ++k)
        dw[static_cast<std::size_t>(n * c.k + k)] += factor * x[static_cast<std::size_t>(t * c.k + k)];
    }
  }
  return dw;
}

std::vector<float> input_kernel(const Case& c, const Values& v, int threads, Gradient mode, float before) {
  ThreadPool pool(threads);
  Device device{pool};
  std::vector<float> dx(static_cast<std::size_t>(c.t * c.k), before);
  const OutputGradient product{&v.weight, v.dy.data(), c.stride};
  matmul_backward_input(device, {&product, 1}, c.t, dx.data(), mode);
  return dx;
}

std::vector<float> weight_kernel(const Case& c, const Values& v, int threads, Gradient mode, float before) {
  ThreadPool pool(threads);
  Device device{pool};
  std::vector<float> dw(static_cast<std::size_t>(c.n * c.k), before);
  matmul_backward_weight(device, {v.dy.data(), c.stride, v.x.data(), c.n, c.k, dw.data()}, c.t, mode);
  return dw;
}

TEST(MatmulBackward, TheOraclesGradientsAreTheSlopes) {
  const Case c{3, 4, 5, 4};
  const Values v(c);
  const auto loss = [&](const Doubles& x, const Doubles& w) {
    double sum = 0;
    for (std::size_t t = 0; t < 3; ++t) {
      for (std::size_t n = 0; n < 4; ++n) {
        for (std::size_t k = 0; k < 5; ++k) sum += v.dy[t * 4 + n] * x[t * 5 + k] * w[n * 5 + k];
      }
    }
    return sum;
  };
  const Doubles x = as_doubles(v.x), w = as_doubles(v.w);
  expect_finite_differences([&](const Doubles& at) { return loss(at, w); }, x, input_gradient(c, v.dy, v.w), "x");
  expect_finite_differences([&](const Doubles& at) { return loss(x, at); }, w, weight_gradient(c, v.dy, v.x), "w");
}

TEST(MatmulBackward, EqualsTheOracleOnEveryTarget) {
  for (const Case& c : kCases) {
    const Values v(c);
    const std::string shape = "T " + std::to_string(c.t) + " N " + std::to_string(c.n) + " K " + std::to_string(c.k);
    const Doubles dx = input_gradient(c, v.dy, v.w), dw = weight_gradient(c, v.dy, v.x);
    on_every_target([&] {
      EXPECT_LE(relative_error(input_kernel(c, v, 2, Gradient::kReplace, NAN), dx), 1e-6) << shape;
      EXPECT_LE(relative_error(weight_kernel(c, v, 2, Gradient::kReplace, NAN), dw), 1e-6) << shape;
    });
  }
}

TEST(MatmulBackward, AddsToWhatIsThere) {
  for (const Case& c : kCases) {
    const Values v(c);
    Doubles dx = input_gradient(c, v.dy, v.w), dw = weight_gradient(c, v.dy, v.x);
    for (double& value : dx) value += 2;
    for (double& value : dw) value += 3;
    on_every_target([&] {
      EXPECT_LE(relative_error(input_kernel(c, v, 2, Gradient::kAdd, 2), dx), 1e-6);
      EXPECT_LE(relative_error(weight_kernel(c, v, 2, Gradient::kAdd, 3), dw), 1e-6);
    });
  }
}

TEST(MatmulBackward, ThreadsDoNotChangeABit) {
  for (const Case& c : kCases) {
    const Values v(c);
    on_every_target([&] {
      const auto dx = input_kernel(c, v, 1, Gradient::kAdd, 1), dw = weight_kernel(c, v, 1, Gradient::kAdd, 1);
      for (const int threads : {2, 3, 6}) {
        EXPECT_EQ(dx, input_kernel(c, v, threads, Gradient::kAdd, 1));
        EXPECT_EQ(dw, weight_kernel(c, v, threads, Gradient::kAdd, 1));
      }
    });
  }
}

TEST(MatmulBackward, ABatchOfNoRowsHasNoGradient) {
  const Case c{0, 3, 5, 3};
  const Values v(c);
  EXPECT_EQ(weight_kernel(c, v, 2, Gradient::kReplace, 7), std::vector<float>(15, 0.0f));
  EXPECT_EQ(weight_kernel(c, v, 2, Gradient::kAdd, 7), std::vector<float>(15, 7.0f));
}

// Every weight format, decoded while it is packed; several products of one X.
TEST(MatmulBackward, WeightsOfEveryFormatAndSeveralOfThem) {
  const Case c{37, 50, 1280, 50};
  for (const FormatInfo& format : formats()) {
    std::vector<float> w = normal_values(c.n * c.k, 4, 0.1), scales;
    std::vector<std::byte> blocks(static_cast<std::size_t>(format_bytes(format.format, c.n * c.k)));
    format.encode(w.data(), blocks.data(), c.n * c.k);
    format.decode(blocks.data(), w.data(), c.n * c.k);
    Tensor weight{"w", format.format, Shape{c.n, c.k}, blocks, {}};
    if (format.format == Format::kF8E4M3) {
      for (std::int64_t n = 0; n < c.n; ++n) scales.push_back(0.5f + static_cast<float>(n % 7));
      for (std::size_t i = 0; i < w.size(); ++i) w[i] *= scales[i / static_cast<std::size_t>(c.k)];
      weight.row_scales = std::as_bytes(std::span(scales));
    }
    const auto dy = normal_values(c.t * c.stride, 5);
    Doubles want = input_gradient(c, dy, w);
    for (double& value : want) value *= 2;
    on_every_target([&] {
      std::vector<std::vector<float>> results;
      for (const int threads : {1, 2, 5}) {
        ThreadPool pool(threads);
        Device device{pool};
        std::vector<float> dx(static_cast<std::size_t>(c.t * c.k), NAN);
        const OutputGradient products[] = {{&weight, dy.data(), c.stride}, {&weight, dy.data(), c.stride}};
        matmul_backward_input(device, products, c.t, dx.data(), Gradient::kReplace);
        EXPECT_LE(relative_error(dx, want), 1e-6) << format.name;
        results.push_back(dx);
      }
      EXPECT_EQ(results[0], results[1]) << format.name;
      EXPECT_EQ(results[0], results[2]) << format.name;
    });
  }
}

TEST(MatmulBackward, WeightsOfDifferentInputsAreDefects) {
  ThreadPool pool(1);
  Device device{pool};
  const Values a({1, 2, 3, 2}), b({1, 2, 4, 2});
  std::vector<float> dx(4);
  const OutputGradient products[] = {{&a.weight, a.dy.data(), 2}, {&b.weight, b.dy.data(), 2}};
  EXPECT_THAT(
      [&] { matmul_backward_input(device, products, 1, dx.data(), Gradient::kReplace); },
      testing::ThrowsMessage<Error>("[matmul_backward] weight w is [2, 4], its outputs lie 2 apart and the inputs are 3 wide"));
}

}  // namespace
}  // namespace puna
