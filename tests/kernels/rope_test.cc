// SPDX-License-Identifier: Apache-2.0
#include "kernels/rope.h"

#include "every_target.h"

#include <cmath>

#include <gmock/gmock.h>

#include "base/error.h"

namespace puna {
namespace {

std::vector<double> frequencies_of(std::int64_t width, double theta) {
  std::vector<double> result;
  for (std::int64_t p = 0; p < width / 2; ++p)
    result.push_back(std::pow(theta, -2.0 * static_cast<double>(p) / static_cast<double>(width)));
  return result;
}

TEST(RopeTable, AnglesAreExactAtTheLastPosition) {
  ThreadPool pool(2);
  Device device{pool};
  const auto frequencies = frequencies_of(128, 500000);
  const std::vector<std::int32_t> positions = {0, 1, 4095, 131071};
  std::vector<float> table(positions.size() * 128);
  rope_table(device, frequencies, positions, table.data());
  for (std::size_t t = 0; t < positions.size(); ++t) {
    for (std::size_t p = 0; p < 64; ++p) {
      const long double angle = static_cast<long double>(positions[t]) * static_cast<long double>(frequencies[p]);
      EXPECT_NEAR(table[t * 128 + 2 * p], static_cast<double>(std::cos(angle)), 6.1e-8) << positions[t] << " pair " << p;
      EXPECT_NEAR(table[t * 128 + 2 * p + 1], static_cast<double>(std::sin(angle)), 6.1e-8) << positions[t] << " pair " << p;
    }
  }
  // cos and sin of 131071 radians to 17 digits, from decimal arithmetic of 60 digits.
  EXPECT_FLOAT_EQ(table[3 * 128], -0.81798349938794908f);
  EXPECT_FLOAT_EQ(table[3 * 128 + 1], -0.57524168375478937f);
}

TEST(RopeTable, ThreadsDoNotChangeBits) {
  const auto frequencies = frequencies_of(64, 10000);
  std::vector<std::int32_t> positions;
  for (std::int32_t i = 0; i < 100; ++i) positions.push_back(i * 37);
  std::vector<std::vector<float>> tables;
  for (const int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    Device device{pool};
    tables.emplace_back(positions.size() * 64);
    rope_table(device, frequencies, positions, tables.back().data());
  }
  EXPECT_EQ(tables[0], tables[1]);
  EXPECT_EQ(tables[0], tables[2]);
}

class RopeForward : public testing::TestWithParam<RopePairing> {};

TEST_P(RopeForward, TurnsEveryPairOfEveryHead) {
  ThreadPool pool(2);
  Device device{pool};
  on_every_target([&] {
    for (const std::int64_t width : {2, 6, 16, 34, 48, 64, 80, 96, 128, 256}) {
      const std::int64_t rows = 70, heads = 3, stride = heads * width + 5;
      const auto before = normal_values(rows * stride, 1);
      const auto angles = normal_values(rows * width / 2, 2, 3);
      std::vector<float> table;
      for (const float angle : angles) table.insert(table.end(), {std::cos(angle), std::sin(angle)});
      auto after = before;
      rope_forward(device, {after.data(), rows, heads, width, stride}, table.data(), GetParam());
      for (std::int64_t i = 0; i < rows * stride; ++i) {
        const std::int64_t t = i / stride, column = i % stride, h = column / width, e = column % width;
        if (column >= heads * width) {
          ASSERT_EQ(after[i], before[i]) << "beyond the heads";
          continue;
        }
        const bool neighbours = GetParam() == RopePairing::kNeighbours;
        const std::int64_t pair = neighbours ? e / 2 : e % (width / 2);
        const bool second = neighbours ? e % 2 == 1 : e >= width / 2;
        const float* head = before.data() + t * stride + h * width;
        const double a = head[neighbours ? 2 * pair : pair], b = head[neighbours ? 2 * pair + 1 : pair + width / 2];
        const double cosine = table[t * width + 2 * pair], sine = table[t * width + 2 * pair + 1];
        const double want = second ? a * sine + b * cosine : a * cosine - b * sine;
        ASSERT_NEAR(after[i], want, 3e-7 * (std::abs(a) + std::abs(b))) << "width " << width << " row " << t << " at " << column;
      }
    }
  });
}

TEST_P(RopeForward, ThreadsDoNotChangeBits) {
  const std::int64_t rows = 65, heads = 4, width = 80;
  const auto x = normal_values(rows * heads * width, 4), table = normal_values(rows * width, 5);
  std::vector<float> first;
  for (const int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    Device device{pool};
    auto turned = x;
    rope_forward(device, {turned.data(), rows, heads, width, heads * width}, table.data(), GetParam());
    if (threads == 1) first = turned;
    EXPECT_EQ(turned, first);
  }
}

INSTANTIATE_TEST_SUITE_P(Pairings, RopeForward, testing::Values(RopePairing::kNeighbours, RopePairing::kHalves));

TEST(Rope, RefusesAnOddWidth) {
  ThreadPool pool(1);
  Device device{pool};
  std::vector<float> x(7), table(7);
  try {
    rope_forward(device, {x.data(), 1, 1, 7, 7}, table.data(), RopePairing::kHalves);
    FAIL() << "an odd width was taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInternal);
    EXPECT_THAT(error.what(), testing::HasSubstr("[rope] 1 heads of width 7"));
  }
}

// The gradient of sum c · rotate(x) is rotate^T c: for all x and c, c · rotate(x) = backward(c) · x.
TEST(Rope, BackwardIsTheTransposeAndUndoesTheRotation) {
  for (const RopePairing pairing : {RopePairing::kNeighbours, RopePairing::kHalves}) {
    for (const std::int64_t width : {2, 6, 32, 34, 128}) {
      const std::int64_t rows = 5, heads = 3, stride = heads * width + 3;
      std::vector<double> frequencies(static_cast<std::size_t>(width / 2));
      for (std::size_t p = 0; p < frequencies.size(); ++p) frequencies[p] = std::pow(10000.0, -static_cast<double>(p) / 64.0);
      const std::vector<std::int32_t> positions = {0, 3, 77, 1000, 9};
      const auto x = normal_values(rows * stride, 31), c = normal_values(rows * stride, 32);
      on_every_target([&] {
        ThreadPool pool(2);
        Device device{pool};
        std::vector<float> table(static_cast<std::size_t>(rows * width));
        rope_table(device, frequencies, positions, table.data());
        auto y = x, dx = c;
        rope_forward(device, {y.data(), rows, heads, width, stride}, table.data(), pairing);
        rope_backward(device, {dx.data(), rows, heads, width, stride}, table.data(), pairing);
        double left = 0, right = 0;
        for (std::size_t i = 0; i < x.size(); ++i) {
          left += static_cast<double>(c[i]) * y[i];
          right += static_cast<double>(dx[i]) * x[i];
        }
        EXPECT_NEAR(left, right, 1e-5 * static_cast<double>(x.size())) << width;
        rope_backward(device, {y.data(), rows, heads, width, stride}, table.data(), pairing);
        for (std::size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(y[i], x[i], 1e-6f) << width << " at " << i;
      });
    }
  }
}

}  // namespace
}  // namespace puna
