// SPDX-License-Identifier: Apache-2.0
// Which format each tensor gets under a named type: the plain types, and llama.cpp's mixes (Q4_K_M, Q5_K_M, …), chosen as its
// quantizer chooses them for the Llama architecture.
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "model/config.h"
#include "model/weights.h"

namespace puna {

struct QuantType {
  std::string_view name;          // "q4_k_m"
  Format base;                    // what most matrices get
  int gguf_file_type;             // general.file_type, or -1
  std::string_view about;         // one line for --help
};
std::span<const QuantType> quant_types();
const QuantType& quant_type(std::string_view name);  // throws kUsage listing the names

// The format of one weight. Norms stay F32; rows that a block does not divide fall back as llama.cpp's do.
Format mixed_format(const QuantType& type, const ModelConfig& config, WeightRole role, std::int64_t layer);

}  // namespace puna
