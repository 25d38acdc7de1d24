// SPDX-License-Identifier: Apache-2.0
// Root-mean-square normalisation (Zhang & Sennrich, 2019, eq. 4), and the residual additions around it.
//   y[t, d] = w[d] x[t, d] / sqrt(mean_d(x[t, d]^2) + eps)        all in F32
#pragma once

#include <cstdint>

#include "kernels/device.h"

namespace puna {

// x [T, D], weight [D] -> y [T, D]. y may be x.
void rms_norm_forward(Device& device, const float* x, const float* weight, float eps, std::int64_t rows, std::int64_t width,
                      float* y);

// With r = 1 / sqrt(mean_d(x^2) + eps) and g[d] = w[d] dy[t, d]:
//   dx[t, d] += r g[d] - r^3 x[t, d] mean_d(g x),      dweight[d] += sum_t dy[t, d] x[t, d] r      (nullptr: not wanted)
struct RmsNormGradient {
  const float* x;       // [T, D]
  const float* weight;  // [D]
  const float* dy;      // [T, D]
  float eps;
  float* dx;       // [T, D], added to
  float* dweight;  // [D], added to, or nullptr
};
void rms_norm_backward(Device& device, const RmsNormGradient& gradient, std::int64_t rows, std::int64_t width);

// x[t, d] += delta[t, d] in place.
void add_forward(Device& device, float* x, const float* delta, std::int64_t rows, std::int64_t width);

}  // namespace puna
