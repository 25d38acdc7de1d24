// SPDX-License-Identifier: Apache-2.0
// Products with weight matrices of every format: Y[t, n] = sum_k X[t, k] W[n, k], for one row (decode) and many (prefill).
//
// Weights are read as they lie in the file; nothing is repacked at load. For many rows of X a few rows of W are unpacked into the
// cache and used for all rows of X before the next few are.
// F32, F16, BF16, F8E4M3 weights multiply F32 activations, exactly decoded, summed in F32.
// Quantized weights multiply activations rounded to 8 bits in blocks of 32: x ≈ s q, s = max|x| / 127, q = round(x / s);
// each block's product is an exact integer, scaled and summed in F32. The rounding of one activation is at most s / 2.
// An instruction set without a fast 8-bit dot decodes quantized weights and multiplies in F32 (has_integer_dots()).
// The order of a sum depends only on K and on whether X has at least kPanelRows rows: any number of threads gives equal bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/device.h"
#include "tensor/tensor.h"

namespace puna {

// From this many rows on, X is rearranged into panels of kPanelWidth rows.
inline constexpr std::int64_t kPanelRows = 8;
inline constexpr std::int64_t kPanelWidth = 32;

// X in 8 bits, row by row (fewer than kPanelRows rows) or in panels p of W = kPanelWidth rows, the last one padded with zeros.
struct QuantizedActivations {
  std::int8_t* q = nullptr;      // [T, K]       or [T / W, K / 4, W, 4]
  float* scales = nullptr;       // [T, K / 32]  or [T / W, K / 32, W]
  std::int32_t* sums = nullptr;  // [T, K / 16]  or [T / W, K / 16, W]: sums of 16 q's
};

// X with the forms that products read, each made when the first product asks for it. Made once per X and shared by all matrices
// that multiply it.
struct Activations {
  const float* values = nullptr;  // [T, K]
  std::int64_t rows = 0, width = 0;
  QuantizedActivations quantized;  // where the buffer keeps the 8-bit form
  float* panels = nullptr;         // [T / W, K, W] F32, for products in F32 with at least kPanelRows rows
  bool has_quantized = false, has_panels = false;
};

// Memory for the forms of up to max_rows × max_width activations.
class ActivationBuffer {
 public:
  ActivationBuffer(std::int64_t max_rows, std::int64_t max_width);

  // Describes X [rows, width], which must outlive the products. The previous Activations of this buffer are no longer valid.
  Activations prepare(const float* x, std::int64_t rows, std::int64_t width);

  static std::int64_t bytes(std::int64_t max_rows, std::int64_t max_width);

 private:
  std::int64_t max_rows_, max_width_;
  std::vector<std::int8_t> q_;
  std::vector<float> scales_, panels_;
  std::vector<std::int32_t> sums_;
};

struct Product {
  const Tensor* weight;  // [N, K]
  float* y;              // [T, N], rows `stride` apart
  std::int64_t stride;
};

// All products of one X, in one pass over the threads. Throws kInternal for shapes that do not match or a quantized K that is not
// a multiple of 32 (a file with such a tensor is refused when it is opened).
void matmul_forward(Device& device, Activations& x, std::span<const Product> products);

// True where the running instruction set multiplies quantized weights in integers.
bool has_integer_dots();

}  // namespace puna
