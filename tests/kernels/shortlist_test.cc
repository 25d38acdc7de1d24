// SPDX-License-Identifier: Apache-2.0
// Shortlists against sorting, and plain sums in double precision.
#include "kernels/shortlist.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "base/as_size.h"
#include "base/random.h"
#include "kernels/every_target.h"

namespace puna {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNaN = std::numeric_limits<float>::quiet_NaN();

// The definition, written down without regard for speed.
struct PlainRow {
  std::vector<std::int32_t> ids;
  double rest = 0, mass = 0;
  std::vector<double> upto;  // [width] sums of w

  PlainRow(const std::vector<float>& row, float inverse_temperature) {
    std::vector<std::int32_t> order;
    for (std::size_t v = 0; v < row.size(); ++v) {
      if (row[v] > -kInfinity) order.push_back(static_cast<std::int32_t>(v));
    }
    std::ranges::stable_sort(order, [&](std::int32_t a, std::int32_t b) { return row[as_size(a)] > row[as_size(b)]; });
    ids.assign(order.begin(), order.begin() + std::min<std::ptrdiff_t>(kShortlist, static_cast<std::ptrdiff_t>(order.size())));
    std::ranges::sort(ids);
    const float peak = order.empty() ? 0 : row[as_size(order.front())];
    for (std::size_t v = 0; v < row.size(); ++v) {
      const float scaled = (row[v] - peak) * inverse_temperature;
      const double w = std::isnan(row[v]) ? 0 : std::exp(static_cast<double>(scaled));
      mass += w;
      upto.push_back(mass);
      if (!std::ranges::binary_search(ids, static_cast<std::int32_t>(v))) rest += w;
    }
  }
};

std::vector<Shortlist> shortlists(const std::vector<float>& x, std::int64_t rows, std::int64_t width,
                                  const std::vector<RowDraw>& draws, int threads = 1) {
  ThreadPool pool(threads);
  Device device{pool};
  std::vector<Shortlist> found(as_size(rows));
  shortlist_rows(device, {x.data(), rows, static_cast<std::int64_t>(x.size()) / rows, width}, draws.data(), found.data());
  return found;
}

Shortlist shortlist(const std::vector<float>& row, const RowDraw& draw) {
  return shortlists(row, 1, static_cast<std::int64_t>(row.size()), {draw}).front();
}

void expect_list(const Shortlist& got, const std::vector<float>& row, float inverse_temperature) {
  const PlainRow want(row, inverse_temperature);
  ASSERT_EQ(std::vector<std::int32_t>(got.tokens().begin(), got.tokens().end()), want.ids);
  EXPECT_EQ(got.width, static_cast<std::int32_t>(row.size()));
  float least = kInfinity;
  for (std::int32_t i = 0; i < got.count; ++i) {
    EXPECT_EQ(got.logits[i], row[as_size(got.ids[i])]);
    least = std::min(least, got.logits[i]);
  }
  EXPECT_EQ(got.border(), got.count < kShortlist ? -kInfinity : least);
  EXPECT_LE(std::abs(got.rest - want.rest), kRestError * want.rest + 1e-30);
}

TEST(Shortlist, HasTheLargestAndTheSumOfTheOthers) {
  for (const std::int64_t width : {1, 7, 255, 256, 257, 300, 4097, 20011}) {
    const std::int64_t stride = width + 5, rows = 3;
    std::vector<float> x = normal_values(rows * stride, 1, 4);
    for (std::int64_t i = stride; i < 2 * stride; ++i) x[as_size(i)] = std::round(x[as_size(i)]);  // many are equal
    for (std::int64_t r = 0; r < rows; ++r) x[as_size(r * stride + width)] = 100;                  // not looked at
    const std::vector<RowDraw> draws{{-1, 1}, {-1, 1 / 0.6f}, {-1, 0.25f}};
    on_every_target([&] {
      for (const int threads : {1, 2}) {
        const std::vector<Shortlist> found = shortlists(x, rows, width, draws, threads);
        for (std::int64_t r = 0; r < rows; ++r) {
          const std::vector<float> row(x.begin() + r * stride, x.begin() + r * stride + width);
          SCOPED_TRACE(testing::Message() << width << " " << r);
          expect_list(found[as_size(r)], row, draws[as_size(r)].inverse_temperature);
          EXPECT_EQ(found[as_size(r)].drawn, -1);
        }
      }
    });
  }
}

TEST(Shortlist, OfEqualOnesHasTheFirst) {
  on_every_target([&] {
    const Shortlist flat = shortlist(std::vector<float>(1000, 2.5f), {-1, 1});
    for (std::int32_t i = 0; i < kShortlist; ++i) ASSERT_EQ(flat.ids[i], i);
    EXPECT_NEAR(flat.rest, 1000 - kShortlist, 1e-3);
    std::vector<float> row(1000, -0.0f);  // equals 0
    for (std::size_t v = 500; v < 1000; ++v) row[v] = 0;
    row[999] = 1;
    const Shortlist last = shortlist(row, {-1, 1});
    for (std::int32_t i = 0; i + 1 < kShortlist; ++i) ASSERT_EQ(last.ids[i], i);
    EXPECT_EQ(last.ids[kShortlist - 1], 999);
  });
}

TEST(Shortlist, RowsInEveryOrder) {
  std::vector<float> rising(5000);
  for (std::size_t v = 0; v < rising.size(); ++v) rising[v] = static_cast<float>(v) / 100;
  const std::vector<float> falling(rising.rbegin(), rising.rend());
  on_every_target([&] {
    expect_list(shortlist(rising, {-1, 1}), rising, 1);
    expect_list(shortlist(falling, {-1, 1}), falling, 1);
  });
}

TEST(Shortlist, PassesOverWhatIsNoNumber) {
  std::vector<float> row = normal_values(3000, 5, 3);
  for (std::size_t v = 0; v < row.size(); v += 3) row[v] = v % 2 == 0 ? kNaN : -kInfinity;
  std::vector<float> few(900, -kInfinity);
  few[70] = 1, few[800] = 2, few[801] = kNaN;
  on_every_target([&] {
    expect_list(shortlist(row, {-1, 1}), row, 1);
    expect_list(shortlist(few, {-1, 1}), few, 1);
    EXPECT_EQ(shortlist(std::vector<float>(300, kNaN), {0.5, 1}).count, 0);
    EXPECT_EQ(shortlists({1, 2}, 1, 0, {{0.5, 1}}).front().count, 0);
  });
}

// The same token as a plain sum in order, and how far the draw is from its ends.
TEST(Shortlist, DrawsWhereTheSumPasses) {
  for (const std::int64_t width : {1, 2, 255, 300, 5003}) {
    std::vector<float> row = normal_values(width, 6, 2);
    if (width > 40) row[30] = kNaN, row[31] = -kInfinity;
    for (const float inverse_temperature : {1.0f, 2.0f, 0.5f}) {
      const PlainRow plain(row, inverse_temperature);
      for (std::uint64_t i = 0; i < 300; ++i) {
        const double uniform = i == 0 ? 0 : random_uniform(3, 1, i);
        const Shortlist found = shortlist(row, {uniform, inverse_temperature});
        const double target = uniform * plain.mass;
        const auto want = std::ranges::upper_bound(plain.upto, target) - plain.upto.begin();
        ASSERT_EQ(found.drawn, want) << width << " " << uniform;
        const double before = want == 0 ? 0 : plain.upto[as_size(want) - 1];
        EXPECT_NEAR(found.margin, std::min(target - before, plain.upto[as_size(want)] - target) / plain.mass, 1e-12);
      }
    }
  }
}

TEST(Shortlist, OfColumnsSideBySideIsThatOfTheRow) {
  for (const std::size_t width : {300, 700, 5000}) {
    std::vector<float> row = normal_values(static_cast<std::int64_t>(width), 8, 3);
    for (std::size_t v = 0; v < width; v += 2) row[v] = std::round(row[v]);
    for (const std::vector<std::size_t>& cuts : {std::vector<std::size_t>{1}, {100, 200}, {width / 2}, {0, width / 3, width - 1}}) {
      Shortlist joined;
      std::size_t first = 0;
      for (std::size_t i = 0; i <= cuts.size(); ++i) {
        const std::size_t end = i < cuts.size() ? cuts[i] : width;
        const auto columns = static_cast<std::int64_t>(end - first);
        const Shortlist part =
            shortlists(std::vector<float>(row.begin() + static_cast<std::ptrdiff_t>(first), row.end()), 1, columns, {{0.5, 0.7f}})
                .front();
        i == 0 ? joined = part : (join_shortlists(joined, part, 0.7f), joined);
        first = end;
      }
      expect_list(joined, row, 0.7f);
      EXPECT_EQ(joined.drawn, -1);
      EXPECT_EQ(joined.margin, 0);
    }
  }
}

}  // namespace
}  // namespace puna
