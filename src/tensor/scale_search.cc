// SPDX-License-Identifier: Apache-2.0
// Lanes that cannot be scaled (all values equal, all zero) divide by zero on the way; their NaNs lose every comparison and the last
// select puts in what such a lane is defined to be.
#include "tensor/scale_search.h"

namespace puna {
namespace {

constexpr float kAllZero = 1e-15f;  // a sub-block whose largest magnitude is below this has scale 0

using Mask = int __attribute__((vector_size(16)));

Lanes splat(float value) { return Lanes{value, value, value, value}; }
Lanes absolute(Lanes v) { return v < 0.0f ? -v : v; }
bool any(Mask mask) { return (mask[0] | mask[1] | mask[2] | mask[3]) != 0; }

Lanes clamp(Lanes v, float low, float high) {
  const Lanes raised = v > low ? v : splat(low);
  return raised < high ? raised : splat(high);
}

// sum_i weights (scale level + base - x)^2
Lanes affine_error(Lanes scale, Lanes base, const Lanes (&x)[32], const Lanes (&weights)[32], const Lanes (&levels)[32]) {
  Lanes error = splat(0.0f);
  for (int i = 0; i < 32; ++i) {
    const Lanes difference = scale * levels[i] + base - x[i];
    error += weights[i] * (difference * difference);
  }
  return error;
}

void affine_levels(Lanes inverse, Lanes base, int top, const Lanes (&x)[32], Lanes (&levels)[32]) {
  for (int i = 0; i < 32; ++i) {
    const Lanes parts = inverse * (x[i] - base);  // infinite where subnormals are divided: level 0
    levels[i] = clamp(round_even(parts < kRoundable ? parts : splat(0.0f)), 0.0f, static_cast<float>(top));
  }
}

// What least squares needs to know about the values once, before any candidate.
struct AffineSums {
  Lanes low, high;  // the range, with low at most 0
  Lanes weight, x;  // sum of weights; sum of weights x
};

AffineSums sum_values(const Lanes (&x)[32], const Lanes (&weights)[32]) {
  AffineSums sums{x[0], x[0], splat(0.0f), splat(0.0f)};
  for (int i = 0; i < 32; ++i) {
    sums.low = x[i] < sums.low ? x[i] : sums.low;
    sums.high = x[i] > sums.high ? x[i] : sums.high;
    sums.weight += weights[i];
    sums.x += weights[i] * x[i];
  }
  sums.low = sums.low > 0.0f ? splat(0.0f) : sums.low;
  return sums;
}

struct Fit {
  Lanes scale, base;
  Mask valid;
};

// The weighted least-squares line through (level, x), forced through base 0 where its base would be positive.
Fit least_squares(const AffineSums& sums, const Lanes (&x)[32], const Lanes (&weights)[32], const Lanes (&levels)[32]) {
  Lanes sum_l = splat(0.0f), sum_l2 = splat(0.0f), sum_xl = splat(0.0f);
  for (int i = 0; i < 32; ++i) {
    const Lanes weighted = weights[i] * levels[i];
    sum_l += weighted;
    sum_l2 += weighted * levels[i];
    sum_xl += weighted * x[i];
  }
  const Lanes determinant = sums.weight * sum_l2 - sum_l * sum_l;
  const Lanes scale = (sums.weight * sum_xl - sums.x * sum_l) / determinant;
  const Lanes base = (sum_l2 * sums.x - sum_l * sum_xl) / determinant;
  const Mask positive = base > 0.0f;
  return {positive ? sum_xl / sum_l2 : scale, positive ? splat(0.0f) : base, determinant > 0.0f};
}

}  // namespace

AffineScale search_affine(const AffineSearch& search, const Lanes (&x)[32], const Lanes (&weights)[32], Lanes (&levels)[32]) {
  const float top = static_cast<float>(search.top);
  const AffineSums sums = sum_values(x, weights);
  const Mask flat = sums.high == sums.low;

  // The best so far: its line, and the (inverse, origin) that its levels were rounded with.
  Lanes base = sums.low, inverse = top / (sums.high - sums.low), origin = sums.low;
  Lanes scale = 1.0f / inverse;
  affine_levels(inverse, origin, search.top, x, levels);
  Lanes best = affine_error(scale, base, x, weights, levels);

  Lanes trial[32];
  for (int c = 0; c <= search.candidates; ++c) {
    const Lanes finer = (search.first + search.step * static_cast<float>(c) + top) / (sums.high - base);
    affine_levels(finer, base, search.top, x, trial);
    const Fit fit = least_squares(sums, x, weights, trial);
    const Lanes error = affine_error(fit.scale, fit.base, x, weights, trial);
    const Mask better = fit.valid & (error < best);
    if (!any(better)) continue;
    origin = better ? base : origin;  // before base moves: later candidates start from the improved base
    inverse = better ? finer : inverse;
    best = better ? error : best;
    scale = better ? fit.scale : scale;
    base = better ? fit.base : base;
  }
  affine_levels(inverse, origin, search.top, x, levels);
  for (Lanes& level : levels) level = flat ? splat(0.0f) : level;
  return {flat ? splat(0.0f) : scale, -base};
}

Lanes search_symmetric(int top, const Lanes (&x)[16], Lanes (&levels)[16]) {
  Lanes largest = splat(0.0f), extreme = splat(0.0f);
  for (int i = 0; i < 16; ++i) {
    const Lanes magnitude = absolute(x[i]);
    const Mask larger = magnitude > largest;
    largest = larger ? magnitude : largest;
    extreme = larger ? x[i] : extreme;
  }
  const Mask zero = largest < kAllZero;

  const float bound = static_cast<float>(top);
  Lanes scale = splat(0.0f), best = splat(-1.0f), inverse = splat(0.0f);
  for (int c = 0; c <= 18; ++c) {  // the plain scale first, then nine finer and nine coarser ones
    const int offset = c == 0 ? 0 : c <= 9 ? c - 10 : c - 9;
    const Lanes candidate = -(bound + 0.1f * static_cast<float>(offset)) / extreme;
    Lanes sum_xl = splat(0.0f), sum_l2 = splat(0.0f);
    for (int i = 0; i < 16; ++i) {
      const Lanes level = clamp(round_even(candidate * x[i]), -bound, bound - 1.0f);
      const Lanes weight = x[i] * x[i];
      sum_xl += weight * x[i] * level;
      sum_l2 += weight * level * level;
    }
    const Lanes fitted = sum_l2 > 0.0f ? sum_xl / sum_l2 : splat(0.0f);
    const Mask better = c == 0 ? (largest == largest) : ((sum_l2 > 0.0f) & (sum_xl * sum_xl > best * sum_l2));
    scale = better ? fitted : scale;
    best = better ? fitted * sum_xl : best;
    inverse = better ? candidate : inverse;
  }
  for (int i = 0; i < 16; ++i) {
    const Lanes level = clamp(round_even(inverse * x[i]), -bound, bound - 1.0f) + bound;
    levels[i] = zero ? splat(0.0f) : level;
  }
  return zero ? splat(0.0f) : scale;
}

}  // namespace puna
