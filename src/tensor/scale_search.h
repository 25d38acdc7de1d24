// SPDX-License-Identifier: Apache-2.0
// The scale of a sub-block: a grid of candidate scales, each improved by weighted least squares, the smallest error wins.
// Four sub-blocks are searched at once, one per lane: a lane adds its terms in the order a plain loop would, so results do not
// depend on the vector width and equal those of llama.cpp's k-quants, which this search is defined by.
#pragma once

namespace puna {

// Four floats in a register of every 64-bit machine (GCC and clang vector extension).
using Lanes = float __attribute__((vector_size(16)));
inline constexpr int kLanes = 4;

// value ~ scale level - minimum, level in 0..top, minimum >= 0.
struct AffineSearch {
  int top;            // 15 or 31
  float first, step;  // candidate c divides the range into top + first + c step parts
  int candidates;     // c in 0..candidates
};
struct AffineScale {
  Lanes scale, minimum;
};
// Minimises sum_i weights[i] (scale level[i] - minimum - x[i])^2, value i of four sub-blocks side by side; levels as floats.
// x, weights, levels: [32]
AffineScale search_affine(const AffineSearch& search, const Lanes (&x)[32], const Lanes (&weights)[32], Lanes (&levels)[32]);

// value ~ scale level, level in -top..top - 1, weights x^2. `levels` are stored from 0: level + top; all 0 where x is all zero.
// x, levels: [16]
Lanes search_symmetric(int top, const Lanes (&x)[16], Lanes (&levels)[16]);

// To the nearest whole number, halves to even, for |v| < kRoundable.
inline constexpr float kRoundable = 0x1.0p22f;
inline Lanes round_even(Lanes v) { return (v + 0x1.8p23f) - 0x1.8p23f; }
inline float round_even(float v) { return (v + 0x1.8p23f) - 0x1.8p23f; }

}  // namespace puna
