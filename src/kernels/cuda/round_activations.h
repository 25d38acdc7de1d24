// SPDX-License-Identifier: Apache-2.0
// The forms of activations, gradients and weights that products of many rows multiply.
#pragma once

#include "kernels/activations.h"
#include "kernels/cuda/context.h"

namespace puna::cuda {

// x.rounded becomes X, or rms_norm(X) where x has a norm, in F16 (±65504 at most), BF16, or F8E4M3 with a scale for each row:
// s = max|x| / 448, max|x| counted as 1200 at most and values beyond 448 s saturating, as in Meta's Llama 3.1. Nothing to do where
// it has this form already.
void round_activations(GpuContext& gpu, Activations& x, Format format);

// rounded [T, width] = values in BF16; rows of values are `stride` apart.
void round_rows(GpuContext& gpu, const float* values, std::int64_t stride, std::int64_t rows, std::int64_t width, void* rounded);

// decoded [rows, K] in `form`, F32 or BF16: rows [first, first + rows) of a weight of any format, row scales included.
void decode_weight_rows(GpuContext& gpu, const Tensor& weight, std::int64_t first, std::int64_t rows, Format form, void* decoded);

}  // namespace puna::cuda
