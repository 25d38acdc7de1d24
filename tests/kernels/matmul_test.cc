// SPDX-License-Identifier: Apache-2.0
// Products of every weight format against plain loops in F64 over decoded weights, on every instruction set of this machine.
#include "kernels/matmul.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "kernels/every_target.h"

namespace puna {
namespace {

struct MatmulCase {
  std::int64_t rows, n, k;  // T, N, K
};

// Weights of a format and what they decode to.
struct Weights {
  std::vector<std::byte> blocks;
  std::vector<float> values;  // [N, K]
  std::vector<float> row_scales;
  Tensor tensor;
};

Weights make_weights(Format format, std::int64_t n, std::int64_t k, std::uint64_t seed) {
  Weights w;
  w.values.resize(static_cast<std::size_t>(n * k));
  for (std::size_t i = 0; i < w.values.size(); ++i) w.values[i] = static_cast<float>(0.1 * random_normal(seed, 0, i));
  w.blocks.resize(static_cast<std::size_t>(format_bytes(format, n * k)));
  info(format).encode(w.values.data(), w.blocks.data(), n * k);
  info(format).decode(w.blocks.data(), w.values.data(), n * k);
  w.tensor = {"w", format, Shape{n, k}, w.blocks, {}};
  if (format == Format::kF8E4M3) {
    for (std::int64_t row = 0; row < n; ++row) w.row_scales.push_back(0.5f + static_cast<float>(row % 7));
    for (std::int64_t i = 0; i < n * k; ++i) w.values[static_cast<std::size_t>(i)] *= w.row_scales[static_cast<std::size_t>(i / k)];
    w.tensor.row_scales = std::as_bytes(std::span(w.row_scales));
  }
  return w;
}

std::vector<float> make_activations(std::int64_t count, std::uint64_t seed) {
  std::vector<float> x(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(random_normal(seed, 1, i));
  return x;
}

// Activations as the header says they are rounded.
std::vector<double> rounded(const std::vector<float>& x) {
  std::vector<double> result(x.size());
  for (std::size_t block = 0; block < x.size(); block += 32) {
    float peak = 0;
    for (std::size_t i = block; i < block + 32; ++i) peak = std::max(peak, std::fabs(x[i]));
    for (std::size_t i = block; i < block + 32; ++i) {
      result[i] = peak == 0 ? 0 : static_cast<double>(std::nearbyint(x[i] * (127.0f / peak))) * (peak / 127.0f);
    }
  }
  return result;
}

std::vector<double> reference(const Weights& w, const std::vector<double>& x, const MatmulCase& shape) {
  std::vector<double> y(static_cast<std::size_t>(shape.rows * shape.n));
  for (std::int64_t t = 0; t < shape.rows; ++t) {
    for (std::int64_t n = 0; n < shape.n; ++n) {
      double sum = 0;
      for (std::int64_t k = 0; k < shape.k; ++k) {
        sum +=
            x[static_cast<std::size_t>(t * shape.k + k)] * static_cast<double>(w.values[static_cast<std::size_t>(n * shape.k + k)]);
      }
      y[static_cast<std::size_t>(t * shape.n + n)] = sum;
    }
  }
  return y;
}

std::vector<float> product(int threads, const Weights& w, const std::vector<float>& x, const MatmulCase& shape) {
  ThreadPool pool(threads);
  Device device{pool};
  ActivationBuffer buffer(shape.rows, shape.k);
  Activations activations = buffer.prepare(x.data(), shape.rows, shape.k);
  std::vector<float> y(static_cast<std::size_t>(shape.rows * shape.n), -7.0f);
  const Product one{&w.tensor, y.data(), shape.n};
  matmul_forward(device, activations, {&one, 1});
  return y;
}

double largest(const std::vector<double>& y) {
  double peak = 0;
  for (const double v : y) peak = std::max(peak, std::fabs(v));
  return peak;
}

double largest_error(const std::vector<float>& y, const std::vector<double>& expected) {
  double error = 0;
  for (std::size_t i = 0; i < y.size(); ++i) error = std::max(error, std::fabs(static_cast<double>(y[i]) - expected[i]));
  return error;
}

// Every instruction set that this machine runs, one after the other.
class MatmulOnTarget : public testing::TestWithParam<std::int64_t> {
 protected:
  void SetUp() override { hwy::SetSupportedTargetsForTest(GetParam()); }
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }
};

INSTANTIATE_TEST_SUITE_P(All, MatmulOnTarget, testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                         [](const auto& test) { return std::string(hwy::TargetName(test.param)); });

TEST_P(MatmulOnTarget, EveryFormatEqualsTheDecodedProduct) {
  const MatmulCase shapes[] = {{1, 37, 512}, {3, 64, 2304}, {7, 5, 256}, {8, 100, 512}, {33, 50, 768}, {70, 49, 4352}};
  for (const FormatInfo& format : formats()) {
    for (const MatmulCase& shape : shapes) {
      const Weights w = make_weights(format.format, shape.n, shape.k, 11);
      const std::vector<float> x = make_activations(shape.rows * shape.k, 12);
      const bool integers = format.block_values > 1 && has_integer_dots();
      const std::vector<double> expected = reference(w, integers ? rounded(x) : std::vector<double>(x.begin(), x.end()), shape);
      EXPECT_LE(largest_error(product(2, w, x, shape), expected), 2e-6 * largest(expected))
          << format.name << " [" << shape.rows << ", " << shape.k << "] x [" << shape.n << ", " << shape.k << "]";
    }
  }
}

// The bar of the formats: rounding the activations to 8 bits costs at most half a step of each block's scale per activation.
TEST_P(MatmulOnTarget, RoundingOfActivationsIsAsStated) {
  const MatmulCase shape{4, 64, 2048};
  for (const FormatInfo& format : formats()) {
    const Weights w = make_weights(format.format, shape.n, shape.k, 21);
    const std::vector<float> x = make_activations(shape.rows * shape.k, 22);
    const std::vector<double> exact = reference(w, std::vector<double>(x.begin(), x.end()), shape);
    const std::vector<float> y = product(1, w, x, shape);
    for (std::int64_t i = 0; i < shape.rows * shape.n; ++i) {
      double bound = 1e-6 * largest(exact);
      for (std::int64_t k = 0; k < shape.k; ++k) {
        const float* const block = x.data() + i / shape.n * shape.k + k / 32 * 32;
        const float step =
            std::fabs(*std::max_element(block, block + 32, [](float a, float b) { return std::fabs(a) < std::fabs(b); })) / 127;
        bound += 0.5001 * step * std::fabs(w.values[static_cast<std::size_t>(i % shape.n * shape.k + k)]);
      }
      ASSERT_LE(std::fabs(y[static_cast<std::size_t>(i)] - exact[static_cast<std::size_t>(i)]), bound) << format.name;
    }
  }
}

TEST_P(MatmulOnTarget, ThreadsDoNotChangeABit) {
  for (const FormatInfo& format : formats()) {
    for (const MatmulCase& shape : {MatmulCase{1, 75, 768}, MatmulCase{5, 75, 768}, MatmulCase{40, 75, 768}}) {
      const Weights w = make_weights(format.format, shape.n, shape.k, 31);
      const std::vector<float> x = make_activations(shape.rows * shape.k, 32);
      const std::vector<float> one = product(1, w, x, shape);
      EXPECT_EQ(one, product(2, w, x, shape)) << format.name;
      EXPECT_EQ(one, product(3, w, x, shape)) << format.name;
    }
  }
}

TEST_P(MatmulOnTarget, ARowDoesNotDependOnItsCompany) {
  for (const FormatInfo& format : formats()) {
    const MatmulCase many{45, 40, 512}, fewer{9, 40, 512};
    const Weights w = make_weights(format.format, many.n, many.k, 41);
    const std::vector<float> x = make_activations(many.rows * many.k, 42);
    std::vector<float> whole = product(2, w, x, many);
    whole.resize(static_cast<std::size_t>(fewer.rows * fewer.n));
    EXPECT_EQ(whole, product(2, w, std::vector<float>(x.begin(), x.begin() + fewer.rows * fewer.k), fewer)) << format.name;
  }
}

// One order of the sums holds for any number of rows of X from kPanelRows on, with AVX2 for fewer too, and for matrices whose rows
// do not fill the lanes.
TEST_P(MatmulOnTarget, IntegerSumsHaveOneOrder) {
  if (!has_integer_dots()) GTEST_SKIP() << "no integer dots";
  for (const FormatInfo& format : formats()) {
    if (format.block_values == 1) continue;
    for (const std::int64_t n : {5, 8, 43}) {
      const MatmulCase many{131, n, 2304};
      const Weights w = make_weights(format.format, n, many.k, 43);
      const std::vector<float> x = make_activations(many.rows * many.k, 44);
      const std::vector<float> whole = product(2, w, x, many);
      const std::vector<double> expected = reference(w, rounded(x), many);
      EXPECT_LE(largest_error(whole, expected), 1e-5 * largest(expected)) << format.name << " N = " << n;
      for (const std::int64_t rows : {1, 2, 3, 8, 9, 15, 31}) {
        if (rows < kPanelRows && GetParam() != HWY_AVX2) continue;
        const std::vector<float> few = product(2, w, std::vector<float>(x.begin(), x.begin() + rows * many.k), {rows, n, many.k});
        EXPECT_TRUE(std::equal(few.begin(), few.end(), whole.begin())) << format.name << " N = " << n << ", " << rows << " rows";
      }
    }
  }
}

// F32 weights take rows of any length; the tails of vectors are not a special case to the reader.
TEST_P(MatmulOnTarget, OddLengths) {
  for (const Format format : {Format::kF32, Format::kF16, Format::kBF16, Format::kF8E4M3}) {
    for (const std::int64_t k : {1, 3, 15, 17, 63, 65, 1025}) {
      for (const std::int64_t rows : {1, 9}) {
        const MatmulCase shape{rows, 13, k};
        const Weights w = make_weights(format, shape.n, k, 51);
        const std::vector<float> x = make_activations(rows * k, 52);
        const std::vector<double> expected = reference(w, std::vector<double>(x.begin(), x.end()), shape);
        EXPECT_LE(largest_error(product(2, w, x, shape), expected), 1e-6 * largest(expected)) << info(format).name << " K = " << k;
      }
    }
  }
}

TEST_P(MatmulOnTarget, ZerosAndTinyActivationsStayFinite) {
  for (const FormatInfo& format : formats()) {
    const MatmulCase shape{9, 8, 256};
    const Weights w = make_weights(format.format, shape.n, shape.k, 61);
    for (const float value : {0.0f, 1e-40f, -1e-38f, 1e30f}) {
      const std::vector<float> y = product(1, w, std::vector<float>(static_cast<std::size_t>(shape.rows * shape.k), value), shape);
      EXPECT_TRUE(std::all_of(y.begin(), y.end(), [](float v) { return std::isfinite(v); })) << format.name << " " << value;
    }
  }
}

TEST(Matmul, SeveralWeightsShareTheirActivations) {
  const std::int64_t k = 512, rows = 11;
  const std::vector<float> x = make_activations(rows * k, 71);
  const Weights a = make_weights(Format::kQ4_K, 20, k, 72), b = make_weights(Format::kF16, 9, k, 73);
  ThreadPool pool(2);
  Device device{pool};
  ActivationBuffer buffer(rows, k);
  Activations activations = buffer.prepare(x.data(), rows, k);
  std::vector<float> y(static_cast<std::size_t>(rows * 29));  // side by side in one row
  const Product both[] = {{&a.tensor, y.data(), 29}, {&b.tensor, y.data() + 20, 29}};
  matmul_forward(device, activations, both);
  const std::vector<float> left = product(1, a, x, {rows, 20, k}), right = product(1, b, x, {rows, 9, k});
  for (std::int64_t t = 0; t < rows; ++t) {
    for (std::int64_t n = 0; n < 29; ++n) {
      EXPECT_EQ(y[static_cast<std::size_t>(t * 29 + n)],
                n < 20 ? left[static_cast<std::size_t>(t * 20 + n)] : right[static_cast<std::size_t>(t * 9 + n - 20)]);
    }
  }
}

TEST(Matmul, MismatchedShapesAreDefects) {
  ThreadPool pool(1);
  Device device{pool};
  const Weights w = make_weights(Format::kF32, 4, 64, 81);
  ActivationBuffer buffer(2, 64);
  const std::vector<float> x(128);
  std::vector<float> y(8);
  const Product product{&w.tensor, y.data(), 4};
  Activations narrow = buffer.prepare(x.data(), 2, 32);
  EXPECT_THAT(
      [&] {
        matmul_forward(device, narrow, {&product, 1});
      },
      testing::ThrowsMessage<Error>("[matmul] weight w is [4, 64], but the activations are [2, 32]"));
  EXPECT_THROW(buffer.prepare(x.data(), 2, 65 * 32), Error);
}

}  // namespace
}  // namespace puna
