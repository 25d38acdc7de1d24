// SPDX-License-Identifier: Apache-2.0
// Products with weight matrices of every format: Y[t, n] = sum_k X[t, k] W[n, k], for one row (decode) and many (prefill).
//
// Weights are read as they lie in the file; nothing is repacked at load. For many rows of X, blocks of W are decoded into the cache
// and used for all rows of X before the next are.
// F32, F16, BF16, F8E4M3 weights multiply F32 activations, exactly decoded, summed in F32.
// Quantized weights multiply activations rounded to 8 bits in blocks of 32: x ≈ s q, s = max|x| / 127, q = round(x / s);
// each block's product is an exact integer, scaled and summed in F32. The rounding of one activation is at most s / 2.
// A GPU multiplies few rows of X in F32 by weights of every format; many rows are rounded to the form of the weight, quantized
// weights and their X to F16 (docs/gpu.md has all formats). An instruction set without a fast 8-bit dot decodes quantized weights
// and multiplies in F32 (has_integer_dots()). The order of a sum depends only on K and on whether X has at least kPanelRows rows:
// any number of threads gives equal bits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/activations.h"
#include "kernels/device.h"

namespace puna {

// Memory for the form of up to max_rows × max_width activations that products of a device read.
class ActivationBuffer {
 public:
  ActivationBuffer(std::int64_t max_rows, std::int64_t max_width);  // of the CPU
  ActivationBuffer(const Device& device, std::int64_t max_rows, std::int64_t max_width);

  // Describes X [rows, width], which must outlive the products. The previous Activations of this buffer are no longer valid.
  Activations prepare(const float* x, std::int64_t rows, std::int64_t width);
  // The same of rms_norm(x) (kernels/rms_norm.h), written to `normed` [rows, width] where products do not make it themselves.
  struct Norm {
    const float* weight;  // [width]
    float eps;
    float* normed;
  };
  Activations prepare_normed(Device& device, const float* x, const Norm& norm, std::int64_t rows, std::int64_t width);

  static std::int64_t bytes(std::int64_t max_rows, std::int64_t max_width, bool on_gpu = false);

 private:
  std::int64_t max_rows_, max_width_;
  Arena rounded_;  // of a GPU: [max_rows, max_width] of 16 bits, then [max_rows] scales
  RoundedActivations on_gpu_;
  std::vector<std::int8_t> q_;
  std::vector<float> scales_;
  std::vector<std::int32_t> sums_;
};

// All products of one X, in one pass over the threads. Throws kInternal for shapes that do not match or a quantized K that is not
// a multiple of 32 (a file with such a tensor is refused when it is opened).
void matmul_forward(Device& device, Activations& x, std::span<const Product> products);

// The same products seen from behind, all in F32. Sums run over N or T in one fixed order: any number of threads gives equal bits.
//   dX [T, K] = dY W (+ dX)        a W that is not F32 is decoded exactly, row scales included
//   dW [N, K] = dY^T X (+ dW)
enum class Gradient { kReplace, kAdd };

struct OutputGradient {
  const Tensor* weight;  // [N, K]
  const float* dy;       // [T, N], rows `stride` apart
  std::int64_t stride;
};
// The products of one X: their gradients of X are summed in the order given.
void matmul_backward_input(Device& device, std::span<const OutputGradient> products, std::int64_t rows, float* dx, Gradient mode);

struct WeightGradient {
  const float* dy;  // [T, N], rows `stride` apart
  std::int64_t stride;
  const float* x;                // [T, K], dense
  std::int64_t outputs, inputs;  // N, K
  float* dw;                     // [N, K]
};
void matmul_backward_weight(Device& device, const WeightGradient& gradient, std::int64_t rows, Gradient mode);

// Both together, for the products of one X [T, K]: every dW that is wanted is added to, and dX [T, K] is replaced. A GPU rounds
// what both read once.
struct ProductGradient {
  const Tensor* weight;  // [N, K]
  const float* dy;       // [T, N], rows `stride` apart
  std::int64_t stride;
  float* dw;  // [N, K], or nullptr
};
void matmul_backward(Device& device, std::span<const ProductGradient> products, const float* x, std::int64_t rows, float* dx);

// out = silu(X Wgate^T) * (X Wup^T): in one pass on a GPU where X has few rows.
void gated_matmul_forward(Device& device, Activations& x, const GatedProduct& product);

// True where the running instruction set multiplies quantized weights in integers.
bool has_integer_dots();

}  // namespace puna
