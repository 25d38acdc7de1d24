// SPDX-License-Identifier: Apache-2.0
// Products of a few rows of X with matrices of every format, as kernels/cuda/load_weight.h lays them out: what a step of decoding
// is bound by. Sums in F32, of quantized weights first in whole numbers, in an order that depends only on K and the format: a row of Y
// has the same bits whatever other rows of W are multiplied with it.
#pragma once

#include <span>

#include "kernels/activations.h"
#include "kernels/cuda/context.h"

namespace puna::cuda {

inline constexpr std::int64_t kMostGemvRows = 7;

// kernels/matmul.h's matmul_forward and gated_matmul_forward, for x.rows <= kMostGemvRows; X is normed where x.norm_weight says so.
// Weights are read before the kernel that was launched last has ended: an operation that writes weights must not be that one.
void gemv_forward(GpuContext& gpu, const Activations& x, std::span<const Product> products);
void gated_gemv_forward(GpuContext& gpu, const Activations& x, const GatedProduct& product);

}  // namespace puna::cuda
