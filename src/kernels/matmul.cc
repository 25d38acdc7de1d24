// SPDX-License-Identifier: Apache-2.0
// The front of the product: checks shapes, makes the form of X that is missing, and gives each thread its rows of W.
#include "kernels/matmul.h"

#include <algorithm>

#include "base/error.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/matmul_targets.h"

namespace puna {
namespace {

// Threads take W's rows in these multiples: small for one row of X, so that narrow matrices split evenly.
constexpr std::int64_t kDecodeGrain = 8;
constexpr std::int64_t kPrefillGrain = 32;

bool is_quantized(Format format) { return info(format).block_values > 1; }

bool multiplies_integers(const Product& product) { return is_quantized(product.weight->format) && has_integer_dots(); }

void check(const Activations& x, const Product& product) {
  const Tensor& w = *product.weight;
  PUNA_CHECK(w.shape.rank() == 2 && w.shape[1] == x.width, "matmul", "weight {} is {}, but the activations are [{}, {}]", w.name,
             w.shape.text(), x.rows, x.width);
  PUNA_CHECK(!is_quantized(w.format) || x.width % 32 == 0, "matmul", "weight {} has rows of {} values, not a multiple of 32",
             w.name, x.width);
}

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

}  // namespace

ActivationBuffer::ActivationBuffer(std::int64_t max_rows, std::int64_t max_width)
    : max_rows_((max_rows + kPanelWidth - 1) / kPanelWidth * kPanelWidth), max_width_((max_width + 31) / 32 * 32) {
  const auto values = static_cast<std::size_t>(max_rows_ * max_width_);
  q_.resize(values);
  scales_.resize(values / 32);
  sums_.resize(values / 16);
}

Activations ActivationBuffer::prepare(const float* x, std::int64_t rows, std::int64_t width) {
  PUNA_CHECK(rows <= max_rows_ && width <= max_width_, "matmul", "[{}, {}] activations in a buffer for [{}, {}]", rows, width,
             max_rows_, max_width_);
  return {.values = x, .rows = rows, .width = width, .quantized = {q_.data(), scales_.data(), sums_.data()}};
}

std::int64_t ActivationBuffer::bytes(std::int64_t max_rows, std::int64_t max_width) {
  const std::int64_t rows = (max_rows + kPanelWidth - 1) / kPanelWidth * kPanelWidth;
  const std::int64_t values = rows * ((max_width + 31) / 32 * 32);
  return values + values / 32 * 4 + values / 16 * 4;
}

void matmul_forward(Device& device, Activations& x, std::span<const Product> products) {
  for (const Product& product : products) check(x, product);
  if (x.rows == 0) return;
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

void matmul_backward_input(Device& device, std::span<const OutputGradient> products, std::int64_t rows, float* dx, Gradient mode) {
  bool add = mode == Gradient::kAdd;
  for (const OutputGradient& product : products) {
    const Tensor& w = *product.weight;
    PUNA_CHECK(w.shape.rank() == 2 && w.shape[1] == products[0].weight->shape[1] && w.shape[0] <= product.stride, "matmul_backward",
               "weight {} is {}, its outputs lie {} apart and the inputs are {} wide", w.name, w.shape.text(), product.stride,
               products[0].weight->shape.row_length());
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

bool has_integer_dots() { return cpu::has_integer_dots(); }

}  // namespace puna
