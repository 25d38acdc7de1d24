// SPDX-License-Identifier: Apache-2.0
// What products need beside them, for those who have the context.
#pragma once

#include <cstdint>

#include "kernels/cuda/context.h"

namespace puna::cuda {

// y [T, D] = rms_norm(x) (kernels/rms_norm.h)
void normalise_rows(GpuContext& gpu, const float* x, const float* weight, float eps, std::int64_t rows, std::int64_t width,
                    float* y);

// sum [T, width] = x + delta; rows of sum and of x, which may be sum, are `stride` apart, delta is dense.
void add_rows(GpuContext& gpu, const float* x, const float* delta, std::int64_t rows, std::int64_t width, std::int64_t stride,
              float* sum);

}  // namespace puna::cuda
