// SPDX-License-Identifier: Apache-2.0
// Narrow floating-point numbers to F32 and back, exactly, one value at a time; round to nearest even.
#pragma once

#include <bit>
#include <cstdint>

namespace puna {

inline float f32_from_bf16(std::uint16_t bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }

inline std::uint16_t bf16_from_f32(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>(bits >> 16 | 64);  // a quiet NaN stays one
  return static_cast<std::uint16_t>((bits + (0x7fffu + (bits >> 16 & 1))) >> 16);
}

// All selects and no branches, so that a loop over an array vectorises.
inline float f32_from_f16(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
  const std::uint32_t magnitude = bits & 0x7fffu;
  const float subnormal = static_cast<float>(static_cast<std::int32_t>(magnitude)) * 0x1.0p-24f;  // a whole number of 2^-24
  const std::uint32_t normal = (magnitude << 13) + (magnitude >= 0x7c00u ? 0x70000000u : 0x38000000u);
  return std::bit_cast<float>(sign | (magnitude < 0x400u ? std::bit_cast<std::uint32_t>(subnormal) : normal));
}

inline std::uint16_t f16_from_f32(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = bits >> 16 & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  const float shifted = std::bit_cast<float>(magnitude) + 0.5f;  // leaves the rounded multiple of 2^-24 in the low bits
  const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u;
  const std::uint32_t normal = (magnitude + 0xfffu + (magnitude >> 13 & 1) - 0x38000000u) >> 13;
  const std::uint32_t finite = magnitude < 0x38800000u ? subnormal : normal;
  const std::uint32_t special = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  return static_cast<std::uint16_t>(sign | (magnitude >= 0x477ff000u ? special : finite));  // 65520 and above round to infinity
}

// E4M3FN (OCP 8-bit floating point): bias 7, no infinity, NaN is 0x7f; the largest value is 448.
inline float f32_from_e4m3(std::uint8_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x80u) << 24;
  const std::uint32_t magnitude = bits & 0x7fu;
  const float subnormal = static_cast<float>(static_cast<std::int32_t>(magnitude)) * 0x1.0p-9f;
  const std::uint32_t normal = magnitude == 0x7fu ? 0x7fc00000u : (magnitude << 20) + 0x3c000000u;
  return std::bit_cast<float>(sign | (magnitude < 8u ? std::bit_cast<std::uint32_t>(subnormal) : normal));
}

// Values beyond 448 saturate; NaN stays NaN.
inline std::uint8_t e4m3_from_f32(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = bits >> 24 & 0x80u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  const float shifted = std::bit_cast<float>(magnitude) + 0x1.0p14f;  // leaves the rounded multiple of 2^-9 in the low bits
  const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(shifted) - 0x46800000u;
  const std::uint32_t normal = (magnitude + 0x7ffffu + (magnitude >> 20 & 1) - 0x3c000000u) >> 20;
  const std::uint32_t finite = magnitude < 0x3c800000u ? subnormal : normal;
  const std::uint32_t special = magnitude > 0x7f800000u ? 0x7fu : 0x7eu;
  return static_cast<std::uint8_t>(sign | (magnitude >= 0x43e00000u ? special : finite));
}

}  // namespace puna
