// SPDX-License-Identifier: Apache-2.0
// Products with weight matrices of every format: Y[t, n] = sum_k X[t, k] W[n, k], for one row (decode) and many (prefill).
//
// Weights are read as they lie in the file; nothing is repacked at load. For many rows a panel of weights is unpacked into the
// cache once and used for all rows of X.
// F32, F16, BF16, F8E4M3 weights multiply F32 activations, exactly decoded, summed in F32.
// Quantized weights multiply activations rounded to 8 bits in blocks of 32: x ≈ s q, s = max|x| / 127, q = round(x / s);
// each block's product is an exact integer, scaled and summed in F32. The rounding of one activation is at most s / 2.
// Sums run in an order that depends only on K: 1 thread and 2 threads, and any split of rows, give equal bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/device.h"
#include "tensor/tensor.h"

namespace puna {

// X as the products read it. Made once per X and shared by all matrices that multiply it.
struct Activations {
  const float* values = nullptr;        // [T, K]
  std::int64_t rows = 0, width = 0;     // T, K
  const std::int8_t* q = nullptr;       // [T, K] 8-bit form; only where a quantized weight asks for it
  const float* scales = nullptr;        // [T, K / 32]
  const std::int32_t* sums = nullptr;   // [T, K / 32] sum of each block's q
};

// Memory for the 8-bit form of up to max_rows × max_width activations.
class ActivationBuffer {
 public:
  ActivationBuffer(std::int64_t max_rows, std::int64_t max_width);

  // Describes X [T, K]; the 8-bit form is made when `quantized` (see reads_quantized). X must outlive the result.
  Activations prepare(Device& device, const float* x, std::int64_t rows, std::int64_t width, bool quantized);

  static std::int64_t bytes(std::int64_t max_rows, std::int64_t max_width);

 private:
  std::vector<std::int8_t> q_;
  std::vector<float> scales_;
  std::vector<std::int32_t> sums_;
};

// True for weight formats whose product reads the 8-bit activations.
bool reads_quantized(Format format);

struct Product {
  const Tensor* weight;   // [N, K]
  float* y;               // [T, N], rows `stride` apart
  std::int64_t stride;
};

// All products of one X, in one pass over the threads. Throws kInternal for shapes that do not match, kUnsupported where K is not
// a multiple of 32 for a quantized weight (a file with such a tensor is refused when it is opened).
void matmul_forward(Device& device, const Activations& x, std::span<const Product> products);

}  // namespace puna
