// SPDX-License-Identifier: Apache-2.0
// Makes the form of X that is missing, and gives each thread its rows of W.
#include "kernels/matmul.h"

#include <algorithm>
#include <array>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/matmul_targets.h"

namespace puna {
namespace {

// Threads take W's rows in these multiples: small for one row of X, so that narrow matrices split evenly.
constexpr std::int64_t kDecodeGrain = 8;
constexpr std::int64_t kPrefillGrain = 32;
constexpr std::int64_t kResidualGrain = 8;

bool is_quantized(Format format) { return info(format).block_values > 1; }

bool multiplies_integers(const Product& product) { return is_quantized(product.weight->format) && has_integer_dots(); }

// Makes the 8-bit form of X: panels split over the threads, a few rows at once (not worth waking a thread for).
void quantize(Device& device, Activations& x) {
  if (x.has_quantized) return;
  x.has_quantized = true;
  if (x.rows < kPanelRows) return cpu::quantize_activations(x, 0, x.rows);
  device.pool.split(x.rows, kPanelWidth,
                    [&](std::int64_t begin, std::int64_t end, int) { cpu::quantize_activations(x, begin, end); });
}

cpu::GemmOperand rows_of(const float* values, std::int64_t stride, cpu::Depth depth) { return {depth, values, stride, nullptr}; }

cpu::GemmOperand weight_of(const Tensor& weight, cpu::Depth depth) {
  if (weight.format != Format::kF32) return {depth, nullptr, 0, &weight};
  return {depth, reinterpret_cast<const float*>(weight.bytes.data()), weight.shape[1], nullptr};
}

void multiply(Device& device, Activations& x, std::span<const Product> products) {
  const bool many = x.rows >= kPanelRows;
  std::int64_t total = 0;  // rows of W, one product after the other, of those that take W row by row
  const auto takes_rows = [&](const Product& product) { return !many || multiplies_integers(product); };
  for (const Product& product : products) {
    if (multiplies_integers(product)) quantize(device, x);
    if (takes_rows(product)) {
      total += product.weight->shape[0];
    } else {
      cpu::gemm(device, {.a = rows_of(x.values, x.width, cpu::Depth::kWithinRows),
                         .b = weight_of(*product.weight, cpu::Depth::kWithinRows),
                         .rows = x.rows,
                         .columns = product.weight->shape[0],
                         .depth = x.width,
                         .c = product.y,
                         .stride = product.stride,
                         .add = false});
    }
  }
  if (total == 0) return;
  device.pool.split(total, many ? kPrefillGrain : kDecodeGrain, [&](std::int64_t begin, std::int64_t end, int) {
    std::int64_t first = 0;  // of this product, in the count over all
    for (const Product& product : products) {
      if (!takes_rows(product)) continue;
      const std::int64_t rows = product.weight->shape[0];
      const RowRange range{&product, std::max(begin - first, std::int64_t{0}), std::min(end - first, rows)};
      if (range.begin < range.end) (multiplies_integers(product) ? cpu::matmul_integer : cpu::matmul_float)(x, range);
      first += rows;
    }
  });
}

}  // namespace

namespace cpu {

void matmul_forward(Device& device, Activations& x, std::span<const Product> products) {
  multiply(device, x, products);
  for (const Product& product : products) {
    if (product.residual == nullptr) continue;
    const std::int64_t width = product.weight->shape[0];
    device.pool.split(x.rows, kResidualGrain, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t t = begin; t < end; ++t) {
        float* const y = product.y + t * product.stride;
        const float* const residual = product.residual + t * product.stride;
        for (std::int64_t n = 0; n < width; ++n) y[n] += residual[n];
      }
    });
  }
}

void gated_matmul_forward(Device& device, Activations& x, const GatedProduct& product) {
  const std::int64_t width = product.gate_weight->shape[0];
  const std::array<Product, 2> products{{{product.gate_weight, product.gate, width}, {product.up_weight, product.up, width}}};
  multiply(device, x, products);
  cpu::swiglu_forward(device, product.gate, product.up, x.rows, width, product.out);
}

void matmul_backward_input(Device& device, std::span<const OutputGradient> products, std::int64_t rows, float* dx, Gradient mode) {
  bool add = mode == Gradient::kAdd;
  for (const OutputGradient& product : products) {
    const Tensor& w = *product.weight;
    cpu::gemm(device, {.a = rows_of(product.dy, product.stride, cpu::Depth::kWithinRows),
                       .b = weight_of(w, cpu::Depth::kAlongRows),
                       .rows = rows,
                       .columns = w.shape[1],
                       .depth = w.shape[0],
                       .c = dx,
                       .stride = w.shape[1],
                       .add = add});
    add = true;
  }
}

void matmul_backward_weight(Device& device, const WeightGradient& gradient, std::int64_t rows, Gradient mode) {
  cpu::gemm(device, {.a = rows_of(gradient.dy, gradient.stride, cpu::Depth::kAlongRows),
                     .b = rows_of(gradient.x, gradient.inputs, cpu::Depth::kAlongRows),
                     .rows = gradient.outputs,
                     .columns = gradient.inputs,
                     .depth = rows,
                     .c = gradient.dw,
                     .stride = gradient.inputs,
                     .add = mode == Gradient::kAdd});
}

}  // namespace cpu

bool has_integer_dots() { return cpu::has_integer_dots(); }

}  // namespace puna
