// SPDX-License-Identifier: Apache-2.0
// Weights on their way from the (mapped) file into the GPU's memory. Floats stay as they are, row by row, with F8E4M3's row scales
// behind them; quantized matrices are laid out as kernels/cuda/weight_cells.h says, without loss and in as many bytes but for
// padding to whole cells (Q4_K and Q5_K: 2 to 3 % more); vectors, of any format, become F32.
#pragma once

#include <cstddef>

#include "kernels/cuda/context.h"
#include "tensor/tensor.h"

namespace puna::cuda {

// What load_weight() uses. `on_host` has one or two dimensions.
std::size_t weight_bytes(const Tensor& on_host);
// `to`: 16-byte aligned. Returns when the weight is there.
Tensor load_weight(GpuContext* gpu, const Tensor& on_host, std::byte* to);

}  // namespace puna::cuda
