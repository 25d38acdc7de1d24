// SPDX-License-Identifier: Apache-2.0
#include "train/schedule.h"

#include <gtest/gtest.h>

#include <vector>

#include "expect_error.h"

namespace puna {
namespace {

TEST(Schedule, RisesLinearlyFirst) {
  for (const ScheduleShape shape :
       {ScheduleShape::kConstant, ScheduleShape::kLinear, ScheduleShape::kCosine, ScheduleShape::kWsd}) {
    const Schedule schedule{.shape = shape, .peak = 8, .final_share = 0, .steps = 100, .warmup = 4, .decay = 20};
    EXPECT_DOUBLE_EQ(schedule.learning_rate(0), 2);
    EXPECT_DOUBLE_EQ(schedule.learning_rate(2), 6);
    EXPECT_DOUBLE_EQ(schedule.learning_rate(3), 8);
    EXPECT_DOUBLE_EQ(schedule.learning_rate(4), 8);
  }
}

TEST(Schedule, FallsAsItsShapeSays) {
  Schedule schedule{.shape = ScheduleShape::kLinear, .peak = 1, .final_share = 0.2, .steps = 110, .warmup = 10};
  EXPECT_DOUBLE_EQ(schedule.learning_rate(60), 0.6);
  EXPECT_DOUBLE_EQ(schedule.learning_rate(109), 1 - 0.8 * 0.99);
  schedule.shape = ScheduleShape::kCosine;
  EXPECT_DOUBLE_EQ(schedule.learning_rate(60), 0.6);
  EXPECT_NEAR(schedule.learning_rate(35), 0.2 + 0.8 * 0.853553390593274, 1e-12);
  schedule.shape = ScheduleShape::kConstant;
  EXPECT_DOUBLE_EQ(schedule.learning_rate(109), 1);
  schedule.shape = ScheduleShape::kWsd;
  schedule.decay = 20;
  EXPECT_DOUBLE_EQ(schedule.learning_rate(89), 1);
  EXPECT_DOUBLE_EQ(schedule.learning_rate(90), 1);
  EXPECT_DOUBLE_EQ(schedule.learning_rate(100), 0.6);
}

TEST(Schedule, StaysAtTheEndBehindTheEnd) {
  const Schedule schedule{.shape = ScheduleShape::kCosine, .peak = 1, .final_share = 0.25, .steps = 10};
  EXPECT_DOUBLE_EQ(schedule.learning_rate(10), 0.25);
  EXPECT_DOUBLE_EQ(schedule.learning_rate(1000), 0.25);
  EXPECT_EQ((Schedule{.shape = ScheduleShape::kLinear, .peak = 1, .steps = 3, .warmup = 3}.learning_rate(2)), 1);
}

TEST(Schedule, HasNames) {
  EXPECT_EQ(schedule_shape("wsd"), ScheduleShape::kWsd);
  expect_error(ErrorKind::kUsage, "there is no schedule cosin: did you mean cosine?", [] { schedule_shape("cosin"); });
}

}  // namespace
}  // namespace puna
