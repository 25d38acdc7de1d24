// SPDX-License-Identifier: Apache-2.0
// Rotary positions (Su et al., 2021, eq. 34): pair p of a head at position t turns by the angle t f[p].
//   (a, b) -> (a cos - b sin, a sin + b cos)
// Which two numbers are a pair depends on how the checkpoint's rows are ordered: Meta and GGUF pair neighbours (2p, 2p + 1),
// Hugging Face pairs halves (p, p + E / 2). Angles are computed in F64: at position 100,000 an F32 angle has lost its third digit.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/device.h"

namespace puna {

enum class RopePairing { kNeighbours, kHalves };

// frequencies [E / 2] in radians per position, positions [T] -> table [T, E / 2, 2]: cosine, sine.
void rope_table(Device& device, std::span<const double> frequencies, std::span<const std::int32_t> positions, float* table);

// Rotates x [T, heads, E] in place; rows are `stride` floats apart.
struct RopeRows {
  float* x;
  std::int64_t rows, heads, width, stride;  // T, heads, E
};
void rope_forward(Device& device, const RopeRows& rows, const float* table, RopePairing pairing);
// A rotation's gradient is the rotation back: dx [T, heads, E] in place.
void rope_backward(Device& device, const RopeRows& rows, const float* table, RopePairing pairing);

}  // namespace puna
