// SPDX-License-Identifier: Apache-2.0
#include "train/stage_average.h"

namespace puna {

void StageAverage::add() {
  make_room();
  const float share = 1 / static_cast<float>(++steps_);
  float* mean = mean_.data();
  for (std::size_t i = 0; i < parameters_.entries().size(); ++i) {
    reader_.read(parameters_.values(i), [&](std::span<const std::byte> piece) {
      const std::span values(reinterpret_cast<const float*>(piece.data()), piece.size() / sizeof(float));
      for (const float value : values) *mean += (value - *mean) * share, ++mean;
    });
  }
}

void StageAverage::take() {
  std::span<const std::byte> mean = state();
  for (std::size_t i = 0; i < parameters_.entries().size(); ++i) {
    const RankedBytes values = parameters_.values(i);
    values.fill(mean.first(values.size()));
    mean = mean.subspan(values.size());
  }
  forget();
}

void StageAverage::restore(std::int64_t steps) {
  steps_ = steps;
  if (steps > 0) make_room();
}

}  // namespace puna
