// SPDX-License-Identifier: Apache-2.0
// SwiGLU (Shazeer, 2020, eq. 6): out[t, f] = silu(gate[t, f]) up[t, f], silu(x) = x / (1 + exp(-x)).
#pragma once

#include <cstdint>

#include "kernels/device.h"

namespace puna {

// gate, up [T, F] -> out [T, F]; out may be gate. Relative error of silu below 4 ulp.
void swiglu_forward(Device& device, const float* gate, const float* up, std::int64_t rows, std::int64_t width, float* out);

// With s = 1 / (1 + exp(-gate)):  dgate = dout up s (1 + gate (1 - s)),  dup = dout gate s.   All [T, F]; dgate may be dout or
// gate, dup may be up.
struct SwigluGradient {
  const float* gate;
  const float* up;
  const float* dout;
  float* dgate;
  float* dup;
};
void swiglu_backward(Device& device, const SwigluGradient& gradient, std::int64_t rows, std::int64_t width);

}  // namespace puna
