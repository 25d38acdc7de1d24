// SPDX-License-Identifier: Apache-2.0
// Llama 3.1's RoPE scaling in the two ways files say it: four figures (Hugging Face, Meta), or a divisor for every frequency
// (GGUF).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "model/config.h"

namespace puna {

// divisors [E / 2] of the unscaled frequencies; empty where nothing is scaled. "Linear" scaling is not part of them.
std::vector<float> rope_divisors(const ModelConfig& config);

// The four figures; nullopt where nothing is scaled. Divisors of a GGUF file are recognised where figures of the published form
// (1, 4, 8192 and a factor) give the same within 1e-5; throws kUnsupported for others.
std::optional<RopeScaling> rope_scaling_figures(const ModelConfig& config, const std::string& where);

}  // namespace puna
