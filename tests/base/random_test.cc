// SPDX-License-Identifier: Apache-2.0
// Philox against the known answers that Random123 (kat_vectors, philox4x32 10) publishes; moments and independence of what is
// built on it.
#include "base/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <set>
#include <vector>

namespace puna {
namespace {

using Words = std::array<std::uint32_t, 4>;

TEST(Philox, KnownAnswers) {
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomBits, AreTheFirstTwoWordsOfTheCounter) {
  // counter = (index low, index high, stream low, stream high), key = (seed low, seed high)
  EXPECT_EQ(random_bits(0, 0, 0), 0xe169c58d6627e8d5u);
  EXPECT_EQ(random_bits(0x299f31d0a4093822u, 0x0370734413198a2eu, 0x85a308d3243f6a88u), 0x94fdccebd16cfe09u);
}

TEST(RandomBits, DifferInEveryArgument) {
  std::set<std::uint64_t> seen;
  for (std::uint64_t seed : {0ull, 1ull, 1ull << 32}) {
    for (std::uint64_t stream : {0ull, 1ull, 1ull << 32}) {
      for (std::uint64_t index : {0ull, 1ull, 1ull << 32}) seen.insert(random_bits(seed, stream, index));
    }
  }
  EXPECT_EQ(seen.size(), 27u);
}

struct Moments {
  double mean = 0, variance = 0, skewness = 0, kurtosis = 0;
};

template <typename Draw>
Moments moments(int count, Draw draw) {
  std::vector<double> values;
  for (int i = 0; i < count; ++i) values.push_back(draw(static_cast<std::uint64_t>(i)));
  Moments m;
  for (const double v : values) m.mean += v / count;
  for (const double v : values) m.variance += (v - m.mean) * (v - m.mean) / count;
  for (const double v : values) {
    m.skewness += std::pow((v - m.mean) / std::sqrt(m.variance), 3) / count;
    m.kurtosis += std::pow((v - m.mean) / std::sqrt(m.variance), 4) / count;
  }
  return m;
}

// Tolerances are about five standard errors of 200,000 draws.
TEST(RandomUniform, Moments) {
  const Moments m = moments(200000, [](std::uint64_t i) { return random_uniform(7, 3, i); });
  EXPECT_NEAR(m.mean, 0.5, 0.0033);
  EXPECT_NEAR(m.variance, 1.0 / 12, 0.0009);
  EXPECT_NEAR(m.skewness, 0, 0.02);
  EXPECT_NEAR(m.kurtosis, 1.8, 0.02);
}

TEST(RandomUniform, StaysBelowOneAndReachesBothEnds) {
  double low = 1, high = 0;
  for (std::uint64_t i = 0; i < 100000; ++i) {
    const double value = random_uniform(1, 2, i);
    ASSERT_GE(value, 0.0);
    ASSERT_LT(value, 1.0);
    low = std::min(low, value);
    high = std::max(high, value);
  }
  EXPECT_LT(low, 1e-3);
  EXPECT_GT(high, 1 - 1e-3);
}

TEST(RandomNormal, Moments) {
  const Moments m = moments(200000, [](std::uint64_t i) { return random_normal(11, 0, i); });
  EXPECT_NEAR(m.mean, 0, 0.012);
  EXPECT_NEAR(m.variance, 1, 0.016);
  EXPECT_NEAR(m.skewness, 0, 0.03);
  EXPECT_NEAR(m.kurtosis, 3, 0.06);
}

TEST(RandomNormal, NeighboursAreUncorrelated) {
  double along_index = 0, along_stream = 0;
  constexpr int kCount = 100000;
  for (std::uint64_t i = 0; i < kCount; ++i) {
    along_index += random_normal(5, 0, i) * random_normal(5, 0, i + 1) / kCount;
    along_stream += random_normal(5, i, 0) * random_normal(5, i + 1, 0) / kCount;
  }
  EXPECT_NEAR(along_index, 0, 0.016);
  EXPECT_NEAR(along_stream, 0, 0.016);
}

}  // namespace
}  // namespace puna
