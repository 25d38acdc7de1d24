// SPDX-License-Identifier: Apache-2.0
// Random values for new weights, adapters and heads. Every value is a function of (seed, tensor, index): threads change nothing.
#pragma once

#include <cstdint>
#include <limits>
#include <span>

#include "kernels/device.h"
#include "model/config.h"
#include "model/weights.h"

namespace puna {

struct WeightDraw {
  std::uint64_t seed;
  std::uint64_t tensor;  // its number among what is drawn
  Device& device;
  std::uint64_t first = 0;  // the values given are those of the tensor from here on

  // As model/parameters.h states for each role.
  void weight(const ModelConfig& config, WeightRole role, std::int64_t layer, std::span<float> values) const;
  // Uniform in [-bound, bound).
  void uniform(double bound, std::span<float> values) const;
  // Normal around 0; what lies beyond `cut` is drawn again.
  struct Normal {
    double spread;
    double cut = std::numeric_limits<double>::infinity();
  };
  void normal(const Normal& normal, std::span<float> values) const;

 private:
  template <typename Value>
  void fill(std::span<float> values, Value&& value) const;
};

}  // namespace puna
