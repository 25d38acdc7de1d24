// SPDX-License-Identifier: Apache-2.0
#include "train/stage_average.h"

namespace puna {

void StageAverage::add() {
  make_room();
  const float share = 1 / static_cast<float>(++steps_);
  float* mean = mean_.data();
  for (const Parameter& parameter : parameters_.all()) {
    pieces_.read(parameter.value, [&](std::span<const float> values) {
      for (const float value : values) *mean += (value - *mean) * share, ++mean;
    });
  }
}

void StageAverage::take() {
  const float* mean = mean_.data();
  for (const Parameter& parameter : parameters_.all()) {
    device_.copy_in(parameter.value.data(), mean, parameter.value.size_bytes());
    mean += parameter.value.size();
  }
  parameters_.values_changed(device_);
  forget();
}

void StageAverage::restore(std::int64_t steps) {
  steps_ = steps;
  if (steps > 0) make_room();
}

}  // namespace puna
