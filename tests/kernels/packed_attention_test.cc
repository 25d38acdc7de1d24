// SPDX-License-Identifier: Apache-2.0
// Packed attention against plain loops in F64, whose gradient is held against finite differences.
#include "kernels/packed_attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "base/error.h"
#include "kernels/every_target.h"
#include "kernels/gradient_check.h"

namespace puna {
namespace {

struct Shape {
  std::int64_t heads, kv_heads, width;
  std::vector<PackedSegment> segments;

  std::int64_t rows() const { return segments.back().first_row + segments.back().rows; }
  // q, k, v of a row lie side by side, with a gap behind them.
  std::int64_t stride() const { return (heads + 2 * kv_heads) * width + 5; }
  std::int64_t kv_offset() const { return heads * width; }
  std::size_t outputs() const { return static_cast<std::size_t>(rows() * heads * width); }
};

// The rows of the batch that row t of segment s sees, in order.
std::vector<std::int64_t> seen(const PackedSegment& s, std::int64_t t) {
  std::vector<std::int64_t> rows;
  for (std::int64_t i = 0; i < s.prefix_rows; ++i) rows.push_back(s.prefix_row + i);
  for (std::int64_t i = s.first_row; i <= t; ++i) rows.push_back(i);
  return rows;
}

// Places in a packed row.
struct Places {
  const Shape& shape;
  std::size_t q(std::int64_t t, std::int64_t h) const { return static_cast<std::size_t>(t * shape.stride() + h * shape.width); }
  std::size_t k(std::int64_t t, std::int64_t h) const {
    return q(t, 0) + static_cast<std::size_t>(shape.kv_offset() + h / (shape.heads / shape.kv_heads) * shape.width);
  }
  std::size_t v(std::int64_t t, std::int64_t h) const { return k(t, h) + static_cast<std::size_t>(shape.kv_heads * shape.width); }
  std::size_t out(std::int64_t t, std::int64_t h) const { return static_cast<std::size_t>((t * shape.heads + h) * shape.width); }
};

double dot(const Doubles& a, std::size_t i, const Doubles& b, std::size_t j, std::int64_t width) {
  double sum = 0;
  for (std::size_t e = 0; e < static_cast<std::size_t>(width); ++e) sum += a[i + e] * b[j + e];
  return sum;
}

struct PackedOracle {
  Doubles out, log_sum_exp, gradient;  // gradient: of x, as x lies
};

// dout empty: forward only.
PackedOracle attend(const Shape& shape, const Doubles& x, const Doubles& dout) {
  const Places at{shape};
  const double scale = 1 / std::sqrt(static_cast<double>(shape.width));
  PackedOracle result{Doubles(shape.outputs()), Doubles(static_cast<std::size_t>(shape.rows() * shape.heads)), Doubles(x.size())};
  for (const PackedSegment& segment : shape.segments) {
    for (std::int64_t t = segment.first_row; t < segment.first_row + segment.rows; ++t) {
      const auto keys = seen(segment, t);
      for (std::int64_t h = 0; h < shape.heads; ++h) {
        Doubles p(keys.size());
        double sum = 0;
        for (std::size_t s = 0; s < keys.size(); ++s) {
          p[s] = std::exp(scale * dot(x, at.q(t, h), x, at.k(keys[s], h), shape.width));
          sum += p[s];
        }
        result.log_sum_exp[static_cast<std::size_t>(t * shape.heads + h)] = std::log(sum);
        for (std::size_t s = 0; s < keys.size(); ++s) {
          p[s] /= sum;
          for (std::size_t e = 0; e < static_cast<std::size_t>(shape.width); ++e) {
            result.out[at.out(t, h) + e] += p[s] * x[at.v(keys[s], h) + e];
          }
        }
        if (dout.empty()) continue;
        const double delta = dot(dout, at.out(t, h), result.out, at.out(t, h), shape.width);
        for (std::size_t s = 0; s < keys.size(); ++s) {
          const double ds = p[s] * (dot(dout, at.out(t, h), x, at.v(keys[s], h), shape.width) - delta) * scale;
          for (std::size_t e = 0; e < static_cast<std::size_t>(shape.width); ++e) {
            result.gradient[at.v(keys[s], h) + e] += p[s] * dout[at.out(t, h) + e];
            result.gradient[at.q(t, h) + e] += ds * x[at.k(keys[s], h) + e];
            result.gradient[at.k(keys[s], h) + e] += ds * x[at.q(t, h) + e];
          }
        }
      }
    }
  }
  return result;
}

struct Result {
  std::vector<float> out, log_sum_exp, gradient;
  bool operator==(const Result&) const = default;
};

Result run(const Shape& shape, const std::vector<float>& x, const std::vector<float>& dout, int threads) {
  ThreadPool pool(threads);
  Device device{pool};
  Result result{std::vector<float>(shape.outputs()), std::vector<float>(static_cast<std::size_t>(shape.rows() * shape.heads)),
                std::vector<float>(x.size(), 0.0f)};
  const auto k = shape.kv_offset(), v = k + shape.kv_heads * shape.width;
  const PackedRows rows = {x.data(), x.data() + k, x.data() + v, shape.stride(), shape.heads, shape.kv_heads, shape.width};
  packed_attention_forward(device, rows, shape.segments, result.out.data(), result.log_sum_exp.data());
  float* const g = result.gradient.data();
  for (std::int64_t t = 0; t < shape.rows(); ++t) std::fill_n(g + t * shape.stride(), shape.stride() - 5, NAN);  // all is replaced
  packed_attention_backward(device, rows, shape.segments,
                            {result.out.data(), result.log_sum_exp.data(), dout.data(), g, g + k, g + v, shape.stride()});
  return result;
}

std::vector<Shape> shapes() {
  return {
      {1, 1, 16, {{0, 1}}},
      {2, 1, 64, {{0, 63}, {63, 64}, {127, 1}}},
      {4, 4, 32, {{0, 65}, {65, 7}}},
      {4, 1, 24, {{0, 20}, {20, 70, 0, 20}, {90, 3, 0, 20}}},
      {4, 2, 64, {{0, 5}, {5, 200}, {205, 66, 5, 200}, {271, 40, 0, 5}, {311, 1, 5, 200}}},
      {3, 3, 7, {{0, 64}, {64, 9, 0, 64}}},
      {2, 2, 128, {{0, 130}}},
  };
}

TEST(PackedAttention, TheOraclesGradientIsTheSlope) {
  for (const Shape& shape :
       {Shape{2, 1, 4, {{0, 3}, {3, 4}, {7, 2, 3, 4}}}, Shape{2, 2, 3, {{0, 6}, {6, 5, 0, 6}, {11, 1, 0, 6}}}}) {
    const Doubles x = as_doubles(normal_values(shape.rows() * shape.stride(), 1));
    const Doubles c = as_doubles(normal_values(static_cast<std::int64_t>(shape.outputs()), 2));
    const auto f = [&](const Doubles& at) { return weighted_sum(c, attend(shape, at, {}).out); };
    expect_finite_differences(f, x, attend(shape, x, c).gradient, "x");
  }
}

TEST(PackedAttention, EqualsTheOracleOnEveryTarget) {
  for (const Shape& shape : shapes()) {
    SCOPED_TRACE("H " + std::to_string(shape.heads) + " G " + std::to_string(shape.kv_heads) + " E " + std::to_string(shape.width));
    const auto x = normal_values(shape.rows() * shape.stride(), 3),
               dout = normal_values(static_cast<std::int64_t>(shape.outputs()), 4);
    const PackedOracle want = attend(shape, as_doubles(x), as_doubles(dout));
    on_every_target([&] {
      const Result got = run(shape, x, dout, 2);
      EXPECT_LE(relative_error(got.out, want.out), 1e-6);
      for (std::size_t i = 0; i < want.log_sum_exp.size(); ++i) ASSERT_NEAR(got.log_sum_exp[i], want.log_sum_exp[i], 3e-6) << i;
      EXPECT_LE(relative_error(got.gradient, want.gradient), 1e-5);
    });
  }
}

TEST(PackedAttention, ThreadsDoNotChangeABit) {
  for (const Shape& shape : shapes()) {
    const auto x = normal_values(shape.rows() * shape.stride(), 5),
               dout = normal_values(static_cast<std::int64_t>(shape.outputs()), 6);
    on_every_target([&] {
      const Result one = run(shape, x, dout, 1);
      EXPECT_EQ(one, run(shape, x, dout, 2));
      EXPECT_EQ(one, run(shape, x, dout, 3));
    });
  }
}

// Large scores: the softmax is all but one key, and nothing overflows.
TEST(PackedAttention, LargeScoresStayFinite) {
  const Shape shape{2, 1, 32, {{0, 70}, {70, 10, 0, 70}}};
  const auto x = normal_values(shape.rows() * shape.stride(), 7, 30),
             dout = normal_values(static_cast<std::int64_t>(shape.outputs()), 8);
  on_every_target([&] {
    const Result got = run(shape, x, dout, 2);
    for (const float g : got.gradient) ASSERT_TRUE(std::isfinite(g));
    for (const float o : got.out) ASSERT_TRUE(std::isfinite(o));
  });
}

TEST(PackedAttention, SegmentsMustCoverTheRowsInOrder) {
  ThreadPool pool(1);
  Device device{pool};
  std::vector<float> x(64), out(64), sums(64);
  const auto forward = [&](std::vector<PackedSegment> segments, std::int64_t heads) {
    packed_attention_forward(device, {x.data(), x.data(), x.data(), 8, heads, 2, 2}, segments, out.data(), sums.data());
  };
  EXPECT_THAT(
      [&] {
        forward({{0, 2}, {3, 1}}, 2);
      },
      testing::ThrowsMessage<Error>("[packed_attention] a segment of 1 rows at row 3, expected row 2"));
  EXPECT_THAT(
      [&] {
        forward({{0, 2}, {2, 1, 0, 1}}, 2);
      },
      testing::ThrowsMessage<Error>(
          "[packed_attention] rows [0, 1) are the prefix of the segment at row 2, but no segment before it"));
  EXPECT_THAT(
      [&] {
        forward({{0, 2}}, 3);
      },
      testing::ThrowsMessage<Error>("[packed_attention] 3 query heads for 2 key/value heads of width 2"));
}

}  // namespace
}  // namespace puna
