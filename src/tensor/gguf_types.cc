// SPDX-License-Identifier: Apache-2.0
#include "tensor/gguf_types.h"

#include <fmt/format.h>

#include <array>
#include <string_view>

namespace puna {
namespace {

// By GgufScalar::Type.
constexpr std::array<std::uint8_t, 13> kValueBytes = {1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8};

// By ggml type id; empty where an id was retired. Only for messages: what can be read is in formats().
constexpr std::array<std::string_view, 42> kGgmlTypes = {
    "F32",   "F16",    "Q4_0",  "Q4_1", "",     "",        "Q5_0",   "Q5_1",    "Q8_0",  "Q8_1",   "Q2_K",
    "Q3_K",  "Q4_K",   "Q5_K",  "Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S",
    "IQ2_S", "IQ4_XS", "I8",    "I16",  "I32",  "I64",     "F64",    "IQ1_M",   "BF16",  "",       "",
    "",      "TQ1_0",  "TQ2_0", "",     "",     "",        "MXFP4",  "NVFP4",   "Q1_0"};

}  // namespace

std::uint64_t gguf_value_bytes(std::uint32_t type) { return type < kValueBytes.size() ? kValueBytes[type] : 0; }

std::string ggml_type_name(std::uint32_t type) {
  if (type < kGgmlTypes.size() && !kGgmlTypes[type].empty()) return fmt::format("{} (ggml type {})", kGgmlTypes[type], type);
  return fmt::format("ggml type {}", type);
}

}  // namespace puna
