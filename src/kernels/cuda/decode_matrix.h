// SPDX-License-Identifier: Apache-2.0
// Rows of a weight as numbers, exactly: for products that do not read its format themselves, and for embeddings.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>
#include <span>

#include "kernels/cuda/context.h"
#include "tensor/tensor.h"

namespace puna::cuda {

// Rows [first, first + rows) of `weight` [N, K], of any format and row scales included -> out [rows, K]. F16 is rounded to nearest
// and saturates at 65504.
void decode_matrix_rows(GpuContext& gpu, const Tensor& weight, std::int64_t first, std::int64_t rows, __half* out);
void decode_matrix_rows_f32(GpuContext& gpu, const Tensor& weight, std::int64_t first, std::int64_t rows, float* out);
// Rows `rows` [R], numbers in the GPU's memory -> out [R, K].
void decode_listed_rows(GpuContext& gpu, const Tensor& weight, std::span<const std::int32_t> rows, float* out);

}  // namespace puna::cuda
