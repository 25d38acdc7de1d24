// SPDX-License-Identifier: Apache-2.0
// What of a network is trained.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/adapters.h"
#include "tensor/format.h"
#include "tensor/tensor.h"

namespace puna {

enum class Trained { kNothing, kWeights, kAdapters };

struct LoraChoice {
  std::int64_t rank = 16;  // r
  double alpha = 16;
  std::vector<WeightRole> roles{kAdaptedRoles.begin(), kAdaptedRoles.end()};
};

// A parameter that an objective brings: a reward head. Drawn from normal(0, spread).
struct ExtraParameter {
  std::string name;
  Shape shape;
  double spread;
  bool decays;
};

struct TrainChoice {
  Trained trained = Trained::kWeights;
  LoraChoice lora = {};           // read with kAdapters
  Format compute = Format::kF32;  // kBF16: products read rounded copies of trained matrices; values stay F32
  bool new_weights = false;       // a new network drawn from `seed`; the checkpoint needs a config only
  std::uint64_t seed = 1;         // of adapters, extra parameters and new weights
  std::vector<ExtraParameter> extra = {};
};

}  // namespace puna
