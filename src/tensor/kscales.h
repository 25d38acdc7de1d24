// SPDX-License-Identifier: Apache-2.0
// The eight 6-bit scales and minima of a Q4_K or Q5_K block in their 12 bytes (layout: tensor/blocks.h).
#pragma once

#include <cstdint>

namespace puna {

struct ScaleAndMinimum {
  std::uint8_t scale, minimum;  // 0..63
};

inline ScaleAndMinimum unpack_scale(const std::uint8_t (&packed)[12], int j) {
  if (j < 4) return {static_cast<std::uint8_t>(packed[j] & 63), static_cast<std::uint8_t>(packed[j + 4] & 63)};
  return {static_cast<std::uint8_t>((packed[j + 4] & 15) | packed[j - 4] >> 6 << 4),
          static_cast<std::uint8_t>(packed[j + 4] >> 4 | packed[j] >> 6 << 4)};
}

inline void pack_scales(const ScaleAndMinimum (&pairs)[8], std::uint8_t (&packed)[12]) {
  for (int j = 0; j < 4; ++j) {
    const ScaleAndMinimum first = pairs[j], second = pairs[j + 4];
    packed[j] = static_cast<std::uint8_t>(first.scale | second.scale >> 4 << 6);
    packed[j + 4] = static_cast<std::uint8_t>(first.minimum | second.minimum >> 4 << 6);
    packed[j + 8] = static_cast<std::uint8_t>((second.scale & 15) | (second.minimum & 15) << 4);
  }
}

}  // namespace puna
