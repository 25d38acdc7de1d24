// SPDX-License-Identifier: Apache-2.0
// Rows of numbers moved, looked up and added: what stands between the products. Everything dense unless it says `stride`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/device.h"
#include "tensor/tensor.h"

namespace puna {

// x [T, D] = rows `tokens` [T] of embedding [V, D], decoded.
void embed_forward(Device& device, const Tensor& embedding, std::span<const std::int32_t> tokens, float* x);
// dembedding [V, D], row tokens[t] += dx[t]; in an order that depends on the tokens only.
void embed_backward(Device& device, std::span<const std::int32_t> tokens, const float* dx, std::int64_t width, float* dembedding);

// y [R, width] = rows `rows` [R], ascending, of x. y may be x.
void gather_rows(Device& device, const float* x, std::span<const std::int32_t> rows, std::int64_t width, float* y);
// Row rows[i] of x += row i of y [R, width]; no row twice.
void scatter_add_rows(Device& device, const float* y, std::span<const std::int32_t> rows, std::int64_t width, float* x);

// y [T, width] += delta [T, width]; rows of y are `stride` apart.
void add_strided(Device& device, float* y, std::int64_t stride, const float* delta, std::int64_t rows, std::int64_t width);
// x [count] *= scale
void scale_values(Device& device, float* x, std::int64_t count, float scale);
// The largest number of each row of x [R, width] and where it is, the first of equal ones; NaN only where there is nothing else.
struct ArgMax {
  std::int32_t* places;  // [R]
  float* values;         // [R]
};
void arg_max_rows(Device& device, const float* x, std::int64_t rows, std::int64_t width, const ArgMax& largest);
// rounded [count] = values in a float format, nearest, ties to even.
void round_values(Device& device, std::span<const float> values, Format format, std::byte* rounded);

}  // namespace puna
