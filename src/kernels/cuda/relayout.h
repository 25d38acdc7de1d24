// SPDX-License-Identifier: Apache-2.0
// Rows of quantized blocks, as in a file, to the layout of kernels/cuda/weight_rows.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/context.h"
#include "tensor/format.h"

namespace puna::cuda {

// Both in the GPU's memory: blocks [rows, width / block] two-byte aligned -> to [rows], 16-byte aligned.
void relayout_rows(GpuContext& gpu, Format format, const std::byte* blocks, std::int64_t rows, std::int64_t width, std::byte* to);

}  // namespace puna::cuda
