// SPDX-License-Identifier: Apache-2.0
#include "train/schedule.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/nearest.h"

namespace puna {
namespace {

constexpr std::array<std::pair<std::string_view, ScheduleShape>, 4> kShapes = {{{"constant", ScheduleShape::kConstant},
                                                                                {"linear", ScheduleShape::kLinear},
                                                                                {"cosine", ScheduleShape::kCosine},
                                                                                {"wsd", ScheduleShape::kWsd}}};

}  // namespace

ScheduleShape schedule_shape(std::string_view name) {
  std::vector<std::string> names;
  for (const auto& [known, shape] : kShapes) {
    if (known == name) return shape;
    names.emplace_back(known);
  }
  fail(ErrorKind::kUsage, "schedule", "there is no schedule {}{}; expected one of {}", name, did_you_mean(name, names),
       fmt::join(names, ", "));
}

double Schedule::learning_rate(std::int64_t step) const {
  if (step < warmup) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup);
  // x over the steps [first, steps).
  const auto done = [&](std::int64_t first) {
    return std::clamp(static_cast<double>(step - first) / static_cast<double>(std::max<std::int64_t>(1, steps - first)), 0.0, 1.0);
  };
  switch (shape) {
    case ScheduleShape::kLinear:
      return peak * (1 + (final_share - 1) * done(warmup));
    case ScheduleShape::kCosine:
      return peak * (final_share + (1 - final_share) * (1 + std::cos(std::numbers::pi * done(warmup))) / 2);
    case ScheduleShape::kWsd:
      return peak * (1 + (final_share - 1) * done(std::max(warmup, steps - decay)));
    default:
      return peak;
  }
}

}  // namespace puna
