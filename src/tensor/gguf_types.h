// SPDX-License-Identifier: Apache-2.0
// Numbers of the GGUF format that its reader and its writer share (ggml/docs/gguf.md).
#pragma once

#include <cstdint>
#include <string>

namespace puna {

inline constexpr std::uint32_t kGgufMagic = 0x46554747;  // "GGUF"
inline constexpr std::int64_t kGgufAlignment = 32;       // where general.alignment is not given

// Blocks are read in place, so their two-byte fields need at least an even address; the specification asks for a multiple of 8.
inline bool gguf_alignment_is_valid(std::int64_t alignment) {
  return alignment >= 8 && alignment <= 1 << 20 && (alignment & (alignment - 1)) == 0;
}

// Bytes of a value of this GgufScalar::Type; of a string its length word alone, of an array its type and count; 0 where unknown.
std::uint64_t gguf_value_bytes(std::uint32_t type);

// "Q2_K (ggml type 10)".
std::string ggml_type_name(std::uint32_t type);

}  // namespace puna
