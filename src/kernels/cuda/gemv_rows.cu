// SPDX-License-Identifier: Apache-2.0
// Products of few rows with float weights (kernels/cuda/gemv_rows_kernel.h).
#include "kernels/cuda/gemv_rows_launch.h"

namespace puna::cuda {

PUNA_GEMV_OF(Format::kF32);
PUNA_GEMV_OF(Format::kF16);
PUNA_GEMV_OF(Format::kBF16);
PUNA_GEMV_OF(Format::kF8E4M3);

}  // namespace puna::cuda
