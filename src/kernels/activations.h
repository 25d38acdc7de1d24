// SPDX-License-Identifier: Apache-2.0
// What a product multiplies: activations X [T, K] in the forms that kernels read, and the weights with the place for the result.
// Made and used through kernels/matmul.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/tensor.h"

namespace puna {

// From this many rows on, products run over blocks of W that fit the caches, and their sums may have another order.
inline constexpr std::int64_t kPanelRows = 8;
// AVX-512 takes the 8-bit form of so many rows and more in panels.
inline constexpr std::int64_t kPanelWidth = 32;

// X in 8 bits, row by row or in panels p of W = kPanelWidth rows, the last one padded with zeros.
struct QuantizedActivations {
  std::int8_t* q = nullptr;      // [T, K]       or [T / W, K / 4, W, 4]
  float* scales = nullptr;       // [T, K / 32]  or [T / W, K / 32, W]
  std::int32_t* sums = nullptr;  // [T, K / 16]  or [T / W, K / 16, W]: sums of 16 q's
};

// What a GPU's products of many rows read: X as F16, BF16 or F8E4M3 with a scale for each row.
struct RoundedActivations {
  std::byte* values = nullptr;   // [T, K]
  float* row_scales = nullptr;   // [T]; F8E4M3 only: x ≈ value row_scales[t]
  Format format = Format::kF32;  // kF32: not made yet
};

// X with the form that products read, made when the first of them asks for it and shared by all matrices that multiply X.
// With norm_weight (on a GPU only) X is rms_norm(values) (kernels/rms_norm.h), never written out in F32: each product makes it
// where it reads X.
struct Activations {
  const float* values = nullptr;  // [T, K]
  std::int64_t rows = 0, width = 0;
  QuantizedActivations quantized;  // where the buffer keeps the 8-bit form
  bool has_quantized = false;
  RoundedActivations rounded;
  const float* norm_weight = nullptr;  // [K]
  float norm_eps = 0;
};

struct Product {
  const Tensor* weight;  // [N, K]
  float* y;              // [T, N], rows `stride` apart
  std::int64_t stride;
  const float* residual = nullptr;  // [T, N], rows `stride` apart: y = residual + X W^T; not y
};

// out [T, F] = silu(X Wgate^T) * (X Wup^T), all dense; gate and up are scratch.
struct GatedProduct {
  const Tensor* gate_weight;  // [F, K]
  const Tensor* up_weight;    // [F, K]
  float* gate;                // [T, F]
  float* up;                  // [T, F]
  float* out;                 // [T, F]; may be gate
};

// A product and the rows of W that one thread works on.
struct RowRange {
  const Product* product;
  std::int64_t begin, end;
};

}  // namespace puna
