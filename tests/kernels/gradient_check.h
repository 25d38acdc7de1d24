// SPDX-License-Identifier: Apache-2.0
// What the tests of backward passes share: finite differences of a scalar function in F64, and the distance of a kernel's F32
// result from a gradient in F64. An oracle's formula is held against finite differences first, the kernel against the oracle then.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace puna {

using Doubles = std::vector<double>;

inline Doubles as_doubles(const std::vector<float>& values) { return Doubles(values.begin(), values.end()); }

// sum c · y: what turns outputs into the scalar whose gradient is checked.
inline double weighted_sum(const Doubles& c, const Doubles& y) {
  double sum = 0;
  for (std::size_t i = 0; i < y.size(); ++i) sum += c[i] * y[i];
  return sum;
}

// Central differences of f at about 20 places of x against `gradient`, to 1e-6 of the largest entry.
inline void expect_finite_differences(const std::function<double(const Doubles&)>& f, Doubles x, const Doubles& gradient,
                                      const std::string& what) {
  ASSERT_EQ(x.size(), gradient.size()) << what;
  double peak = 1e-3;
  for (const double g : gradient) peak = std::max(peak, std::abs(g));
  const double h = 1e-4;
  for (std::size_t i = 0; i < x.size(); i += std::max<std::size_t>(1, x.size() / 20)) {
    const double middle = x[i];
    const auto at = [&](double offset) {
      x[i] = middle + offset;
      return f(x);
    };
    // Fourth order: the error of the formula is far below the bar.
    const double slope = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
    x[i] = middle;
    EXPECT_NEAR(slope, gradient[i], 1e-6 * peak) << what << " at " << i;
  }
}

// |got - want| / |want| in the 2-norm
inline double relative_error(const std::vector<float>& got, const Doubles& want) {
  double difference = 0, norm = 1e-300;
  for (std::size_t i = 0; i < want.size(); ++i) {
    difference += (got[i] - want[i]) * (got[i] - want[i]);
    norm += want[i] * want[i];
  }
  return got.size() == want.size() ? std::sqrt(difference / norm) : INFINITY;
}

}  // namespace puna
