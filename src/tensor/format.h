// SPDX-License-Identifier: Apache-2.0
// Element formats of weights: one table row each, with its name, block, bytes, exact decode and encode.
// A row of a matrix is K / block_values blocks one after the other; block layouts are stated in tensor/blocks.h.
// A format with no fast dot in kernels/ still runs through `decode`. Tests iterate over the table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace puna {

enum class Format : std::uint8_t { kF32, kF16, kBF16, kF8E4M3, kQ8_0, kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ4_K, kQ5_K, kQ6_K };

struct FormatInfo {
  Format format;
  std::string_view name;         // "q4_k": what --type takes
  std::string_view safetensors;  // "BF16", or empty where safetensors cannot hold it
  int gguf_type;                 // ggml type id, or -1 where GGUF cannot hold it
  int block_values;              // values in a block: 1, 32 or 256
  int block_bytes;
  // blocks [count / block_values] -> values [count]; exact: the value the format defines, rounded once to F32.
  void (*decode)(const void* blocks, float* values, std::int64_t count);
  // values [count], finite -> blocks. Quantized blocks: bit for bit what llama.cpp writes without an importance matrix. Floats:
  // nearest, ties to even; F8E4M3 saturates at 448.
  void (*encode)(const float* values, void* blocks, std::int64_t count);
};

std::span<const FormatInfo> formats();
const FormatInfo& info(Format format);
std::optional<Format> format_from_name(std::string_view name);  // case-insensitive
std::optional<Format> format_from_gguf(int gguf_type);
std::optional<Format> format_from_safetensors(std::string_view name);

// Bytes of `count` values; count must be a multiple of the block.
inline std::int64_t format_bytes(Format format, std::int64_t count) {
  const FormatInfo& row = info(format);
  return count / row.block_values * row.block_bytes;
}

}  // namespace puna
