// SPDX-License-Identifier: Apache-2.0
// Few rows of X: kernels/cuda/gemv.h. Many: cuBLASLt multiplies X rounded to the form of the weight, F16 for quantized weights, and
// sums in F32; F32 weights multiply X as it is. Gradients are computed in F32 from weights decoded exactly; where the weight or
// gpu.gradient_format is BF16, from operands rounded to BF16. Here: which form X and W take, and in how many pieces, so that
// decoded weights fit gpu.decoded.
#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "kernels/cuda/between_products.h"
#include "kernels/cuda/context.h"
#include "kernels/cuda/cublas_product.h"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/decode_matrix.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/gemv.h"
#include "kernels/cuda/round_activations.h"
#include "kernels/cuda/weight_rows.h"

namespace puna::cuda {
namespace {

Room decoded_room(const GpuContext& gpu) { return {gpu.decoded, static_cast<std::int64_t>(gpu.decoded_bytes)}; }

// A product, or several in a row whose weights and results lie side by side in memory.
struct JoinedProduct {
  const Product* first;
  std::int64_t outputs;  // N of all

  const Tensor& weight() const { return *first->weight; }
  const float* row_scales() const {  // [N], or nullptr
    return weight().row_scales.empty() ? nullptr : reinterpret_cast<const float*>(weight().row_scales.data());
  }
};

// Whether `next` goes on where `before` ends.
bool continues(const JoinedProduct& before, const Product& next) {
  const Product& first = *before.first;
  const Tensor &w = *first.weight, &v = *next.weight;
  if (w.format != v.format || is_quantized(w.format) || first.stride != next.stride) return false;
  const std::int64_t weight_bytes = before.outputs * w.shape[1] * float_bytes(w.format);
  const std::int64_t scale_bytes = before.outputs * static_cast<std::int64_t>(sizeof(float));
  const bool same_scales = w.row_scales.empty() ? v.row_scales.empty()
                                                : !v.row_scales.empty() && w.row_scales.data() + scale_bytes == v.row_scales.data();
  const bool same_residual = first.residual == nullptr
                                 ? next.residual == nullptr
                                 : next.residual != nullptr && first.residual + before.outputs == next.residual;
  return w.bytes.data() + weight_bytes == v.bytes.data() && same_scales && same_residual && first.y + before.outputs == next.y;
}

// each(first, count) for pieces of nearly equal size, at most `most`, which together are [0, total).
template <typename Each>
void in_pieces(std::int64_t total, std::int64_t most, const Each& each) {
  constexpr std::int64_t kGrain = 128;  // rows and columns of a tile
  PUNA_CHECK(most > 0, "matmul", "one row of {} does not fit the room for decoded ones", total);
  const std::int64_t pieces = (total + most - 1) / most, even = pieces == 0 ? 0 : (total + pieces - 1) / pieces;
  const std::int64_t size = std::min((even + kGrain - 1) / kGrain * kGrain, most);
  for (std::int64_t first = 0; first < total; first += size) each(first, std::min(size, total - first));
}

// y [T, N] = X W^T (+ residual), X [T, K] and W [N, K] in one dense format
DenseProduct forward_product(const Activations& x, const JoinedProduct& product, Format format, const void* activations,
                             const void* weight) {
  return {.format = format,
          .a = {activations, x.width, Depth::kWithinRows},
          .b = {weight, x.width, Depth::kWithinRows},
          .rows = x.rows,
          .columns = product.outputs,
          .depth = x.width,
          .c = product.first->y,
          .stride = product.first->stride,
          .added = product.first->residual};
}

// The part of a product that makes columns [first, first + count) of y, from a weight of so many rows.
void take_columns(DenseProduct& product, std::int64_t first, std::int64_t count) {
  product.columns = count;
  product.c += first;
  if (product.added != nullptr) product.added += first;
}

// The part that makes rows [first, first + count) of y.
void take_rows(DenseProduct& product, std::int64_t first, std::int64_t count, std::int64_t value_bytes) {
  product.rows = count;
  product.a.values = static_cast<const std::byte*>(product.a.values) + first * product.a.stride * value_bytes;
  if (product.a.scales != nullptr) product.a.scales += first;
  product.c += first * product.stride;
  if (product.added != nullptr) product.added += first * product.stride;
}

void multiply_f32(GpuContext& gpu, const Activations& x, const JoinedProduct& product) {
  constexpr std::int64_t kValueBytes = sizeof(float);
  const DenseProduct whole = forward_product(x, product, Format::kF32, x.values, product.weight().bytes.data());
  if (x.norm_weight == nullptr) return multiply(gpu, whole);
  auto* const normed = reinterpret_cast<float*>(gpu.decoded);  // [count, K]
  in_pieces(x.rows, decoded_room(gpu).bytes / (x.width * kValueBytes), [&](std::int64_t first, std::int64_t count) {
    normalise_rows(gpu, x.values + first * x.width, x.norm_weight, x.norm_eps, count, x.width, normed);
    DenseProduct part = whole;
    take_rows(part, first, count, kValueBytes);
    part.a.values = normed;
    multiply(gpu, part);
  });
}

// Weights that lie in memory as they are multiplied.
void multiply_16_bits(GpuContext& gpu, Activations& x, const JoinedProduct& product) {
  const Format format = product.weight().format;
  round_activations(gpu, x, format);
  multiply(gpu, forward_product(x, product, format, x.rounded.values, product.weight().bytes.data()));
}

// Quantized weights by way of F16; F8E4M3, where the GPU cannot multiply it, of BF16.
void multiply_decoded(GpuContext& gpu, Activations& x, const JoinedProduct& product) {
  const bool quantized = is_quantized(product.weight().format);
  const Format form = quantized ? Format::kF16 : Format::kBF16;
  round_activations(gpu, x, form);
  in_pieces(product.outputs, decoded_room(gpu).bytes / (x.width * 2), [&](std::int64_t first, std::int64_t count) {
    if (quantized) {
      decode_matrix_rows(gpu, product.weight(), first, count, reinterpret_cast<__half*>(gpu.decoded));
    } else {
      decode_weight_rows(gpu, product.weight(), first, count, form, gpu.decoded);
    }
    DenseProduct part = forward_product(x, product, form, x.rounded.values, gpu.decoded);
    take_columns(part, first, count);
    multiply(gpu, part);
  });
}

struct SetScales {
  const float* from;  // [N], or nullptr: ones
  float* to;          // [N]
  template <int N>
  __device__ void at(std::int64_t i) const {
    Pack<float, N> scales;
#pragma unroll
    for (int n = 0; n < N; ++n) scales.v[n] = from != nullptr ? from[i + n] : 1.0f;
    store(to + i, scales);
  }
};

// F8E4M3 by F8E4M3 with a scale for each row of both. False, and nothing was written, where the GPU cannot.
bool multiply_8_bits(GpuContext& gpu, Activations& x, const JoinedProduct& product) {
  if (x.width % 16 != 0 || product.outputs % 16 != 0 || !holds_packs(x.rounded.row_scales)) return false;
  const float* const stored_scales = product.row_scales();
  const bool as_stored = stored_scales != nullptr && holds_packs(stored_scales);
  const Room room = room_beside_products(gpu);
  auto* const scales = reinterpret_cast<float*>(room.data);  // [N]
  PUNA_CHECK(product.outputs * static_cast<std::int64_t>(sizeof(float)) <= room.bytes, "matmul", "{} row scales", product.outputs);
  DenseProduct whole = forward_product(x, product, Format::kF8E4M3, x.rounded.values, product.weight().bytes.data());
  whole.a.scales = x.rounded.row_scales;
  whole.b.scales = as_stored ? stored_scales : scales;
  DenseProduct alone = whole;  // without the residual
  alone.added = nullptr;
  alone.c = reinterpret_cast<float*>(gpu.decoded);  // [count, N]
  alone.stride = product.outputs;
  const auto can_alone = [&] { return whole.added != nullptr && can_multiply(gpu, alone); };
  if (!can_multiply(gpu, whole) && !can_alone()) return false;
  round_activations(gpu, x, Format::kF8E4M3);
  if (!as_stored) for_each_value(gpu, "row_scales", SetScales{stored_scales, scales}, product.outputs, true);
  if (try_multiply(gpu, whole)) return true;
  if (!can_alone()) return false;
  in_pieces(x.rows, decoded_room(gpu).bytes / (product.outputs * 4), [&](std::int64_t first, std::int64_t count) {
    DenseProduct part = alone;
    take_rows(part, first, count, 1);
    part.c = alone.c;
    multiply(gpu, part);
    const std::int64_t offset = first * whole.stride;
    add_rows(gpu, whole.added + offset, part.c, count, product.outputs, whole.stride, whole.c + offset);
  });
  return true;
}

void multiply_many_rows(GpuContext& gpu, Activations& x, const JoinedProduct& product) {
  switch (product.weight().format) {
    case Format::kF32:
      return multiply_f32(gpu, x, product);
    case Format::kF16:
    case Format::kBF16:
      return multiply_16_bits(gpu, x, product);
    case Format::kF8E4M3:
      if (multiply_8_bits(gpu, x, product)) return;
      return multiply_decoded(gpu, x, product);
    default:
      return multiply_decoded(gpu, x, product);
  }
}

constexpr std::int64_t kOperandAlignment = 256;
constexpr std::int64_t aligned(std::int64_t bytes) {
  return (bytes + kOperandAlignment - 1) / kOperandAlignment * kOperandAlignment;
}

// dX [T, K] = dY [T, N] W [N, K] (+ dX). W is decoded in pieces of its rows unless it lies in the form that is multiplied.
void add_input_gradient(GpuContext& gpu, const OutputGradient& product, std::int64_t rows, float* dx, bool add) {
  const Tensor& w = *product.weight;
  const std::int64_t outputs = w.shape[0], inputs = w.shape[1];
  const bool narrow = w.format == Format::kBF16 || gpu.gradient_format == Format::kBF16;
  const Format form = narrow ? Format::kBF16 : Format::kF32;
  const bool as_it_lies = w.format == form;
  const std::int64_t value_bytes = float_bytes(form);
  const Room room = as_it_lies ? decoded_room(gpu) : room_beside_products(gpu);  // of rounded dY
  in_pieces(outputs, as_it_lies ? outputs : decoded_room(gpu).bytes / (inputs * value_bytes),
            [&](std::int64_t first, std::int64_t count) {
              if (!as_it_lies) decode_weight_rows(gpu, w, first, count, form, gpu.decoded);
              const void* const weight = as_it_lies ? w.bytes.data() : gpu.decoded;  // [count, K]
              const auto multiply_rows = [&](const void* dy, std::int64_t stride, std::int64_t first_row, std::int64_t row_count) {
                float* const to = dx + first_row * inputs;
                multiply(gpu, {.format = form,
                               .a = {dy, stride, Depth::kWithinRows},
                               .b = {weight, inputs, Depth::kAlongRows},
                               .rows = row_count,
                               .columns = inputs,
                               .depth = count,
                               .c = to,
                               .stride = inputs,
                               .added = add ? to : nullptr});
              };
              if (narrow) {
                in_pieces(rows, room.bytes / (count * value_bytes), [&](std::int64_t first_row, std::int64_t row_count) {
                  round_rows(gpu, product.dy + first_row * product.stride + first, product.stride, row_count, count, room.data);
                  multiply_rows(room.data, count, first_row, row_count);
                });
              } else {
                multiply_rows(product.dy + first, product.stride, 0, rows);
              }
              add = true;
            });
}

// dW [N, K] (+)= dY [T, N]^T X [T, K] of operands in one format
void add_weight_gradient(GpuContext& gpu, const WeightGradient& gradient, Format format, DenseOperand dy, DenseOperand x,
                         std::int64_t rows, bool add) {
  multiply(gpu, {.format = format,
                 .a = dy,
                 .b = x,
                 .rows = gradient.outputs,
                 .columns = gradient.inputs,
                 .depth = rows,
                 .c = gradient.dw,
                 .stride = gradient.inputs,
                 .added = add ? gradient.dw : nullptr});
}

// Whether the operands of the products, all rounded to BF16, fit the room beside each other, one dY at a time.
bool fit_together(const GpuContext& gpu, std::span<const ProductGradient> products, std::int64_t rows) {
  std::int64_t outputs = 0;
  for (const ProductGradient& product : products) {
    if (product.weight->format != Format::kBF16) return false;
    outputs = std::max(outputs, product.weight->shape[0]);
  }
  return gpu.gradient_format == Format::kBF16 &&
         aligned(rows * products[0].weight->shape[1] * 2) + rows * outputs * 2 <= decoded_room(gpu).bytes;
}

}  // namespace

void matmul_forward(Device& device, Activations& x, std::span<const Product> products) {
  for (const Product& product : products) {
    const Tensor& w = *product.weight;
    PUNA_CHECK(w.shape.rank() == 2 && w.shape[1] == x.width && w.shape[0] <= product.stride, "matmul",
               "weight {} is [{}, {}], its outputs lie {} apart and the activations are [{}, {}]", w.name, w.shape[0], w.shape[1],
               product.stride, x.rows, x.width);
  }
  if (x.rows == 0 || products.empty()) return;
  GpuContext& gpu = context_of(device);
  if (x.rows < kPanelRows) return gemv_forward(gpu, x, products);
  for (std::size_t i = 0; i < products.size();) {
    JoinedProduct joined{&products[i], products[i].weight->shape[0]};
    for (++i; i < products.size() && continues(joined, products[i]); ++i) joined.outputs += products[i].weight->shape[0];
    multiply_many_rows(gpu, x, joined);
  }
}

void gated_matmul_forward(Device& device, Activations& x, const GatedProduct& product) {
  const std::int64_t width = product.gate_weight->shape[0];
  PUNA_CHECK(product.up_weight->shape == product.gate_weight->shape, "matmul", "a gate of {} outputs and an up of {}", width,
             product.up_weight->shape[0]);
  if (x.rows == 0) return;
  if (x.rows < kPanelRows) return gated_gemv_forward(context_of(device), x, product);
  const std::array<Product, 2> products{Product{.weight = product.gate_weight, .y = product.gate, .stride = width},
                                        Product{.weight = product.up_weight, .y = product.up, .stride = width}};
  cuda::matmul_forward(device, x, products);
  cuda::swiglu_forward(device, product.gate, product.up, x.rows, width, product.out);
}

void matmul_backward_input(Device& device, std::span<const OutputGradient> products, std::int64_t rows, float* dx, Gradient mode) {
  for (const OutputGradient& product : products) {
    const Tensor& w = *product.weight;
    PUNA_CHECK(w.shape.rank() == 2 && w.shape[1] == products[0].weight->shape[1] && w.shape[0] <= product.stride, "matmul_backward",
               "weight {} is [{}, {}], its outputs lie {} apart and the inputs are {} wide", w.name, w.shape[0], w.shape[1],
               product.stride, products[0].weight->shape[1]);
  }
  if (rows == 0) return;
  GpuContext& gpu = context_of(device);
  bool add = mode == Gradient::kAdd;
  for (const OutputGradient& product : products) {
    add_input_gradient(gpu, product, rows, dx, add);
    add = true;
  }
}

void matmul_backward_weight(Device& device, const WeightGradient& gradient, std::int64_t rows, Gradient mode) {
  GpuContext& gpu = context_of(device);
  const std::int64_t outputs = gradient.outputs, inputs = gradient.inputs;
  bool add = mode == Gradient::kAdd;
  if (rows == 0) {
    const auto bytes = static_cast<std::size_t>(outputs * inputs) * sizeof(float);
    if (!add) check(cudaMemsetAsync(gradient.dw, 0, bytes, gpu.stream), "matmul_backward");
    return;
  }
  if (gpu.gradient_format != Format::kBF16) {
    return add_weight_gradient(gpu, gradient, Format::kF32, {gradient.dy, gradient.stride, Depth::kAlongRows},
                               {gradient.x, inputs, Depth::kAlongRows}, rows, add);
  }
  in_pieces(rows, (decoded_room(gpu).bytes - kOperandAlignment) / ((outputs + inputs) * 2),
            [&](std::int64_t first, std::int64_t count) {
              std::byte* const dy = gpu.decoded;                       // [count, N] BF16
              std::byte* const x = dy + aligned(count * outputs * 2);  // [count, K] BF16
              round_rows(gpu, gradient.dy + first * gradient.stride, gradient.stride, count, outputs, dy);
              round_rows(gpu, gradient.x + first * inputs, inputs, count, inputs, x);
              add_weight_gradient(gpu, gradient, Format::kBF16, {dy, outputs, Depth::kAlongRows}, {x, inputs, Depth::kAlongRows},
                                  count, add);
              add = true;
            });
}

void matmul_backward(Device& device, std::span<const ProductGradient> products, const float* x, std::int64_t rows, float* dx) {
  if (products.empty() || rows == 0) return;
  GpuContext& gpu = context_of(device);
  const std::int64_t inputs = products[0].weight->shape[1];
  bool add = false;
  if (!fit_together(gpu, products, rows)) {
    for (const ProductGradient& product : products) {
      const WeightGradient gradient{product.dy, product.stride, x, product.weight->shape[0], inputs, product.dw};
      if (product.dw != nullptr) cuda::matmul_backward_weight(device, gradient, rows, Gradient::kAdd);
      add_input_gradient(gpu, {product.weight, product.dy, product.stride}, rows, dx, std::exchange(add, true));
    }
    return;
  }
  std::byte* const rounded_x = gpu.decoded;                              // [T, K] BF16
  std::byte* const rounded_dy = rounded_x + aligned(rows * inputs * 2);  // [T, N] BF16
  const auto has_gradient = [](const ProductGradient& product) { return product.dw != nullptr; };
  if (std::ranges::any_of(products, has_gradient)) round_rows(gpu, x, inputs, rows, inputs, rounded_x);
  for (const ProductGradient& product : products) {
    const std::int64_t outputs = product.weight->shape[0];
    round_rows(gpu, product.dy, product.stride, rows, outputs, rounded_dy);
    if (product.dw != nullptr) {
      add_weight_gradient(gpu, {product.dy, product.stride, x, outputs, inputs, product.dw}, Format::kBF16,
                          {rounded_dy, outputs, Depth::kAlongRows}, {rounded_x, inputs, Depth::kAlongRows}, rows, true);
    }
    multiply(gpu, {.format = Format::kBF16,
                   .a = {rounded_dy, outputs, Depth::kWithinRows},
                   .b = {product.weight->bytes.data(), inputs, Depth::kAlongRows},
                   .rows = rows,
                   .columns = inputs,
                   .depth = outputs,
                   .c = dx,
                   .stride = inputs,
                   .added = std::exchange(add, true) ? dx : nullptr});
  }
}

}  // namespace puna::cuda
