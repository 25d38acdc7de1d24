// SPDX-License-Identifier: Apache-2.0
// What a product multiplies: activations X [T, K] in the forms that kernels read, and the weights with the place for the result.
// Made and used through kernels/matmul.h.
#pragma once

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

// X with the form that integer products read, made when the first of them asks for it and shared by all matrices that multiply X.
struct Activations {
  const float* values = nullptr;  // [T, K]
  std::int64_t rows = 0, width = 0;
  QuantizedActivations quantized;  // where the buffer keeps the 8-bit form
  bool has_quantized = false;
};

struct Product {
  const Tensor* weight;  // [N, K]
  float* y;              // [T, N], rows `stride` apart
  std::int64_t stride;
};

// A product and the rows of W that one thread works on.
struct RowRange {
  const Product* product;
  std::int64_t begin, end;
};

}  // namespace puna
