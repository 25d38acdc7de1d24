// SPDX-License-Identifier: Apache-2.0
// Which format each tensor gets under a named type: the plain types, and llama.cpp's mixes (Q4_K_M, Q5_K_M, …), chosen as its
// quantizer chooses them for the Llama architecture.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "model/config.h"
#include "model/weights.h"

namespace puna {

// How many matrices get more bits than the base: "_s" few, "_m" the attention values and half of the feed-forward outputs.
enum class MixSize { kUniform, kSmall, kMedium };

struct QuantType {
  std::string_view name;   // "q4_k_m"
  Format base;             // what most matrices get
  int gguf_file_type;      // general.file_type, or -1
  std::string_view about;  // one line for --help
  MixSize size = MixSize::kUniform;
};
std::span<const QuantType> quant_types();
const QuantType& quant_type(std::string_view name);  // any case; throws kUsage naming the nearest, or all

bool is_norm(WeightRole role);

// The format of one weight. Norms stay F32; rows that a block does not divide fall back as llama.cpp's do:
// Q4_K to Q5_0, Q5_K to Q5_1, Q6_K to Q8_0, and what 32 does not divide to F16.
// fp8 keeps all but the feed-forward matrices of the inner layers in BF16, norms too.
Format mixed_format(const QuantType& type, const ModelConfig& config, WeightRole role, std::int64_t layer);

}  // namespace puna
