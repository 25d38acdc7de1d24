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

// x[t, d] += delta[t, d] in place.
void add_forward(Device& device, float* x, const float* delta, std::int64_t rows, std::int64_t width);

}  // namespace puna
