// SPDX-License-Identifier: Apache-2.0
// A checkpoint as a Meta folder of one rank: params.json, consolidated.00.pth, tokenizer.model, and fp8_scales_0.pt for FP8.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "model/checkpoint.h"
#include "quant/weight_encoder.h"

namespace puna {

// How params.json says the feed-forward width F of a model of width D (model.py):
// F = multiple_of * ceil(int(ffn_dim_multiplier * int(8 D / 3)) / multiple_of).
struct FeedForwardFigures {
  double multiplier = 1;
  std::int64_t multiple = 256;
};
// Meta's own figures where they give F, else some that do.
FeedForwardFigures feed_forward_figures(std::int64_t width, std::int64_t feed_forward);

// params.json. Throws kUnsupported for a network that it has no words for: heads that do not add up to the width, linear RoPE
// scaling. Appends to `notes` what could not be carried over.
std::string meta_params_text(const Checkpoint& in, std::vector<std::string>& notes);

// Writes into `folder`, which exists; `encoder` is for RopePairing::kNeighbours, and only feed-forward matrices may be planned as
// F8E4M3, which they must be already.
void write_meta_checkpoint(const std::filesystem::path& folder, const Checkpoint& in, std::span<const WeightPlan> plan,
                           WeightEncoder& encoder, std::vector<std::string>& notes);

}  // namespace puna
