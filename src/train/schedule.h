// SPDX-License-Identifier: Apache-2.0
// Learning rates as functions of the step, counted from 0. All have a linear warm-up first:
//   step < warmup:  peak (step + 1) / warmup
// then, with x = (step - warmup) / (steps - warmup), which would be 1 at the step behind the last:
//   constant  peak
//   linear    peak (1 + (final - 1) x)
//   cosine    peak (final + (1 - final) (1 + cos(pi x)) / 2)          (Loshchilov & Hutter, 2017, eq. 5)
//   wsd       peak; the last `decay` steps as linear, x counted over them          (Hu et al., 2024: warm-up, stable, decay)
#pragma once

#include <cstdint>
#include <string_view>

namespace puna {

enum class ScheduleShape { kConstant, kLinear, kCosine, kWsd };
// "constant", "linear", "cosine", "wsd". Throws kUsage naming the nearest.
ScheduleShape schedule_shape(std::string_view name);

struct Schedule {
  ScheduleShape shape = ScheduleShape::kCosine;
  double peak = 1e-4;
  double final_share = 0.1;  // of the peak, where the run ends
  std::int64_t steps = 0;    // of the run
  std::int64_t warmup = 0;   // steps
  std::int64_t decay = 0;    // steps, wsd only

  double learning_rate(std::int64_t step) const;
};

}  // namespace puna
