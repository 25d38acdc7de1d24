// SPDX-License-Identifier: Apache-2.0
// A checkpoint as a GGUF file that llama.cpp loads: the llama.* keys, the vocabulary, the chat template, rope_freqs.weight where
// frequencies are scaled, and the weights with queries and keys as neighbours. From a GGUF file all its keys are kept.
#pragma once

#include <filesystem>
#include <span>

#include "model/checkpoint.h"
#include "quant/weight_encoder.h"
#include "tensor/gguf.h"

namespace puna {

// Metadata and the entries of rope_freqs.weight and all planned weights. file_type: general.file_type.
GgufPlan gguf_plan(const Checkpoint& in, std::span<const WeightPlan> plan, int file_type);

// Writes the file; `encoder` is for RopePairing::kNeighbours.
void write_gguf_checkpoint(const std::filesystem::path& out, const Checkpoint& in, std::span<const WeightPlan> plan, int file_type,
                           WeightEncoder& encoder);

}  // namespace puna
