// SPDX-License-Identifier: Apache-2.0
// Figures of a config as text: what config.json and params.json share.
#pragma once

#include <span>

#include "model/checkpoint.h"
#include "quant/weight_encoder.h"

namespace puna {

// GGUF holds reals as F32: 1e-5 comes back as 9.99999974737875e-06. The shortest decimal of the same F32 is what was meant.
double shortest_figure(double value);

// The unquantized format that most values of the matrices have: what "torch_dtype" says. BF16 where all are quantized.
Format common_float_format(const Checkpoint& in, std::span<const WeightPlan> plan);

}  // namespace puna
