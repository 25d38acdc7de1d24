// SPDX-License-Identifier: Apache-2.0
// AdamW (Loshchilov & Hutter, 2019, algorithm 2) with decoupled decay, one tensor at a time, and what clipping needs.
//   m = b1 m + (1 - b1) g,   v = b2 v + (1 - b2) g^2
//   w -= lr (m / (1 - b1^step) / (sqrt(v / (1 - b2^step)) + eps) + decay w)
#pragma once

#include <cstdint>
#include <span>

#include "kernels/device.h"

namespace puna {

struct AdamwStep {
  double learning_rate, beta1, beta2, eps, decay;
  std::int64_t step;      // 1 for the first
  double gradient_scale;  // every g is multiplied by it first: clipping
};

// weight, gradient, m and v all have the same length.
void adamw_update(Device& device, const AdamwStep& step, std::span<float> weight, std::span<const float> gradient,
                  std::span<float> m, std::span<float> v);

// States in 8 bits, in blocks of 256 with one F32 scale each (Dettmers et al., 2022, block-wise quantization): m linear and signed,
// v as its square root, unsigned. Both are rounded up or down by chance, in proportion (a hash of step and place: reruns are
// bit-equal), so that they decay although one step's decay may be less than half a level; a v that is not 0 stays at least 1.
inline constexpr std::int64_t kAdamwBlock = 256;
struct Adamw8BitState {
  std::span<std::int8_t> m;           // [n]
  std::span<std::uint8_t> v;          // [n]
  std::span<float> m_scale, v_scale;  // [ceil(n / kAdamwBlock)]
};
void adamw_update(Device& device, const AdamwStep& step, std::span<float> weight, std::span<const float> gradient,
                  const Adamw8BitState& state);

// sum x^2 in F64, in an order that depends on the length only.
double sum_of_squares(Device& device, std::span<const float> x);

}  // namespace puna
