// SPDX-License-Identifier: Apache-2.0
#include "kernels/softmax.h"

#include "every_target.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace puna {
namespace {

double expected(const std::vector<float>& logits) {
  const double shift = *std::max_element(logits.begin(), logits.end());
  long double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<long double>(logit) - shift);
  return static_cast<double>(shift + std::log(sum));
}

TEST(LogSumExp, EqualsTheFormula) {
  on_every_target([&] {
    for (const std::int64_t count : {1, 2, 15, 16, 17, 100, 1000, 128256}) {
      for (const double spread : {0.01, 1.0, 10.0, 300.0}) {
        const auto logits = normal_values(count, 1, spread);
        EXPECT_NEAR(log_sum_exp(logits), expected(logits), 1e-6) << count << " logits of spread " << spread;
      }
    }
  });
}

TEST(LogSumExp, LargeSmallAndInfiniteLogits) {
  const float infinity = std::numeric_limits<float>::infinity(), largest = std::numeric_limits<float>::max();
  on_every_target([&] {
    EXPECT_EQ(log_sum_exp({}), -infinity);
    EXPECT_NEAR(log_sum_exp(std::vector<float>(64, 1e30f)), 1e30, 1e24);
    EXPECT_NEAR(log_sum_exp(std::vector<float>(64, -1e4f)), -1e4 + std::log(64.0), 1e-9);
    EXPECT_EQ(log_sum_exp(std::vector<float>{largest, -largest}), largest);
    EXPECT_EQ(log_sum_exp(std::vector<float>(40, -infinity)), -infinity);
    std::vector<float> masked(40, -infinity);  // as a grammar leaves them
    masked[3] = 2;
    masked[39] = 2;
    EXPECT_NEAR(log_sum_exp(masked), 2 + std::log(2.0), 1e-7);
    masked[20] = std::nanf("");
    EXPECT_TRUE(std::isnan(log_sum_exp(masked)));
  });
}

}  // namespace
}  // namespace puna
