// SPDX-License-Identifier: Apache-2.0
// Rows of quantized blocks, as in a file, to the layout of kernels/cuda/weight_cells.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/context.h"
#include "tensor/format.h"

namespace puna::cuda {

// Rows [first, first + rows) of a matrix of so many columns. Both in the GPU's memory.
struct BlockRows {
  const std::byte* blocks;  // [rows, width / block], two-byte aligned
  std::int64_t first, rows, width;
  std::byte* matrix;  // where its row 0 is laid out, 16-byte aligned
};
void relayout_rows(GpuContext& gpu, Format format, const BlockRows& of);

}  // namespace puna::cuda
