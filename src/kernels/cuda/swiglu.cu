// SPDX-License-Identifier: Apache-2.0
// SwiGLU on a GPU, value by value in F32 (kernels/cuda/elementwise.h).
#include "kernels/cuda/cuda_kernels.h"

#include "base/error.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/silu.h"

namespace puna::cuda {
namespace {

struct Forward {
  const float* gate;  // [T, F]
  const float* up;    // [T, F]
  float* out;         // [T, F]; may be gate
  template <int N>
  __device__ void at(std::int64_t i) const {
    const auto gates = load<N>(gate + i), ups = load<N>(up + i);
    Pack<float, N> result;
#pragma unroll
    for (int n = 0; n < N; ++n) result.v[n] = silu(gates.v[n]) * ups.v[n];
    store(out + i, result);
  }
};

// 1 - s is computed as such, not by a difference that cancels.
struct Backward {
  SwigluGradient gradient;  // all [T, F]
  template <int N>
  __device__ void at(std::int64_t i) const {
    const auto gates = load<N>(gradient.gate + i), ups = load<N>(gradient.up + i), douts = load<N>(gradient.dout + i);
    Pack<float, N> dgates, dups;
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const float gate = gates.v[n], small = expf(-fabsf(gate));
      const float large_share = 1.0f / (1.0f + small), small_share = small * large_share;
      const float s = gate < 0 ? small_share : large_share, rest = gate < 0 ? large_share : small_share;
      dgates.v[n] = douts.v[n] * ups.v[n] * (s * fmaf(gate, rest, 1.0f));
      dups.v[n] = douts.v[n] * gate * s;
    }
    store(gradient.dgate + i, dgates);
    store(gradient.dup + i, dups);
  }
};

}  // namespace

void swiglu_forward(Device& device, const float* gate, const float* up, std::int64_t rows, std::int64_t width, float* out) {
  PUNA_CHECK(rows >= 0 && width >= 0, "swiglu", "shape [{}, {}]", rows, width);
  for_each_value(context_of(device), "swiglu", Forward{gate, up, out}, rows * width, holds_packs(gate, up, out));
}

void swiglu_backward(Device& device, const SwigluGradient& gradient, std::int64_t rows, std::int64_t width) {
  PUNA_CHECK(rows >= 0 && width >= 0, "swiglu", "shape [{}, {}]", rows, width);
  for_each_value(context_of(device), "swiglu_backward", Backward{gradient}, rows * width,
                 holds_packs(gradient.gate, gradient.up, gradient.dout, gradient.dgate, gradient.dup));
}

}  // namespace puna::cuda
