// SPDX-License-Identifier: Apache-2.0
// A checkpoint as a Hugging Face folder: config.json, safetensors files of at most 5 GB with their index, the tokenizer's files.
// E4M3 matrices lie beside their `weight_scale` [N, 1], as FBGEMM's row-wise FP8 folders have them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/checkpoint.h"
#include "quant/weight_encoder.h"

namespace puna {

inline constexpr std::int64_t kShardBytes = 5'000'000'000;  // tensors of one file; a larger tensor has a file of its own

// What any other container does to a reward model: a note of those who write one.
inline constexpr std::string_view kScoreLeftOut =
    "the score of this reward model was left out: only a Hugging Face folder can hold it";

// config.json for weights of these formats. Throws kUnsupported for rotary scaling that it has no words for.
std::string hugging_face_config_text(const Checkpoint& in, std::span<const WeightPlan> plan);

// Writes into `folder`, which exists; `encoder` is for RopePairing::kHalves. Appends to `notes` what could not be carried over.
void write_hugging_face_checkpoint(const std::filesystem::path& folder, const Checkpoint& in, std::span<const WeightPlan> plan,
                                   WeightEncoder& encoder, std::vector<std::string>& notes, std::int64_t shard_bytes = kShardBytes);

}  // namespace puna
