// SPDX-License-Identifier: Apache-2.0
#include "tensor/format.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "base/error.h"
#include "tensor/blocks.h"
#include "tensor/codecs.h"

namespace puna {
namespace {

constexpr std::array<FormatInfo, 12> kFormats = {{
    // format, name, safetensors, ggml type, values and bytes of a block, decode, encode
    {Format::kF32, "f32", "F32", 0, 1, 4, decode_f32, encode_f32},
    {Format::kF16, "f16", "F16", 1, 1, 2, decode_f16, encode_f16},
    {Format::kBF16, "bf16", "BF16", 30, 1, 2, decode_bf16, encode_bf16},
    {Format::kF8E4M3, "f8_e4m3", "F8_E4M3", -1, 1, 1, decode_f8_e4m3, encode_f8_e4m3},
    {Format::kQ8_0, "q8_0", "", 8, kBlock, sizeof(BlockQ8_0), decode_q8_0, encode_q8_0},
    {Format::kQ4_0, "q4_0", "", 2, kBlock, sizeof(BlockQ4_0), decode_q4_0, encode_q4_0},
    {Format::kQ4_1, "q4_1", "", 3, kBlock, sizeof(BlockQ4_1), decode_q4_1, encode_q4_1},
    {Format::kQ5_0, "q5_0", "", 6, kBlock, sizeof(BlockQ5_0), decode_q5_0, encode_q5_0},
    {Format::kQ5_1, "q5_1", "", 7, kBlock, sizeof(BlockQ5_1), decode_q5_1, encode_q5_1},
    {Format::kQ4_K, "q4_k", "", 12, kSuperBlock, sizeof(BlockQ4_K), decode_q4_k, encode_q4_k},
    {Format::kQ5_K, "q5_k", "", 13, kSuperBlock, sizeof(BlockQ5_K), decode_q5_k, encode_q5_k},
    {Format::kQ6_K, "q6_k", "", 14, kSuperBlock, sizeof(BlockQ6_K), decode_q6_k, encode_q6_k},
}};

constexpr bool rows_follow_the_enum() {
  for (std::size_t i = 0; i < kFormats.size(); ++i) {
    if (static_cast<std::size_t>(kFormats[i].format) != i) return false;
  }
  return true;
}
static_assert(rows_follow_the_enum());

template <typename Matches>
std::optional<Format> find(Matches&& matches) {
  const auto row = std::find_if(kFormats.begin(), kFormats.end(), matches);
  if (row == kFormats.end()) return std::nullopt;
  return row->format;
}

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

}  // namespace

std::span<const FormatInfo> formats() { return kFormats; }

const FormatInfo& info(Format format) {
  const auto index = static_cast<std::size_t>(format);
  PUNA_CHECK(index < kFormats.size(), "format", "there is no element format {}", index);
  return kFormats[index];
}

std::optional<Format> format_from_name(std::string_view name) {
  return find([&](const FormatInfo& row) { return equal_ignoring_case(row.name, name); });
}

std::optional<Format> format_from_gguf(int gguf_type) {
  return find([&](const FormatInfo& row) { return gguf_type >= 0 && row.gguf_type == gguf_type; });
}

std::optional<Format> format_from_safetensors(std::string_view name) {
  return find([&](const FormatInfo& row) { return !name.empty() && row.safetensors == name; });
}

}  // namespace puna
