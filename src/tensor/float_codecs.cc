// SPDX-License-Identifier: Apache-2.0
// Plain floats, one value per block. The bytes may lie at any address (a safetensors header has any length), so every value is
// moved with memcpy, which compilers turn into one unaligned vector load.
#include <cstring>

#include "tensor/codecs.h"
#include "tensor/half.h"

namespace puna {
namespace {

template <typename Bits, typename Convert>
void decode_each(const void* blocks, float* values, std::int64_t count, Convert convert) {
  const auto* bytes = static_cast<const unsigned char*>(blocks);
  for (std::int64_t i = 0; i < count; ++i) {
    Bits bits;
    std::memcpy(&bits, bytes + i * static_cast<std::int64_t>(sizeof(Bits)), sizeof(Bits));
    values[i] = convert(bits);
  }
}

template <typename Bits, typename Convert>
void encode_each(const float* values, void* blocks, std::int64_t count, Convert convert) {
  auto* bytes = static_cast<unsigned char*>(blocks);
  for (std::int64_t i = 0; i < count; ++i) {
    const Bits bits = convert(values[i]);
    std::memcpy(bytes + i * static_cast<std::int64_t>(sizeof(Bits)), &bits, sizeof(Bits));
  }
}

}  // namespace

void decode_f32(const void* blocks, float* values, std::int64_t count) {
  if (count > 0) std::memcpy(values, blocks, static_cast<std::size_t>(count) * sizeof(float));
}
void decode_f16(const void* blocks, float* values, std::int64_t count) {
  decode_each<std::uint16_t>(blocks, values, count, [](std::uint16_t bits) { return f32_from_f16(bits); });
}
void decode_bf16(const void* blocks, float* values, std::int64_t count) {
  decode_each<std::uint16_t>(blocks, values, count, [](std::uint16_t bits) { return f32_from_bf16(bits); });
}
void decode_f8_e4m3(const void* blocks, float* values, std::int64_t count) {
  decode_each<std::uint8_t>(blocks, values, count, [](std::uint8_t bits) { return f32_from_e4m3(bits); });
}

void encode_f32(const float* values, void* blocks, std::int64_t count) {
  if (count > 0) std::memcpy(blocks, values, static_cast<std::size_t>(count) * sizeof(float));
}
void encode_f16(const float* values, void* blocks, std::int64_t count) {
  encode_each<std::uint16_t>(values, blocks, count, [](float value) { return f16_from_f32(value); });
}
void encode_bf16(const float* values, void* blocks, std::int64_t count) {
  encode_each<std::uint16_t>(values, blocks, count, [](float value) { return bf16_from_f32(value); });
}
void encode_f8_e4m3(const float* values, void* blocks, std::int64_t count) {
  encode_each<std::uint8_t>(values, blocks, count, [](float value) { return e4m3_from_f32(value); });
}

}  // namespace puna
