// SPDX-License-Identifier: Apache-2.0
// The mean of the weights after each step of a stage (Polyak & Juditsky, 1992), which becomes the stage's result. It lies in the
// host's memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "model/ranked_parameters.h"

namespace puna {

class StageAverage {
 public:
  // `parameters` must outlive it.
  explicit StageAverage(const RankedParameters& parameters) : parameters_(parameters) {}

  std::int64_t steps() const { return steps_; }  // that it is the mean of
  void forget() { steps_ = 0; }
  void add();
  // The mean becomes the values, and is forgotten. Whoever rounds them has to be told: Parameters::values_changed().
  void take();

  // Of a checkpoint: all values one after the other, to be filled where it is restored.
  std::span<std::byte> state() { return std::as_writable_bytes(std::span(mean_)); }
  void restore(std::int64_t steps);

 private:
  void make_room() { mean_.resize(static_cast<std::size_t>(parameters_.count())); }

  const RankedParameters& parameters_;
  RankedReader reader_;
  std::vector<float> mean_;
  std::int64_t steps_ = 0;
};

}  // namespace puna
