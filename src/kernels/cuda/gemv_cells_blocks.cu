// SPDX-License-Identifier: Apache-2.0
// Products of few rows with weights in blocks of 32 (kernels/cuda/gemv_cells_kernel.h).
#include "kernels/cuda/gemv_cells_launch.h"

namespace puna::cuda {

PUNA_GEMV_OF(Format::kQ8_0);
PUNA_GEMV_OF(Format::kQ4_0);
PUNA_GEMV_OF(Format::kQ4_1);
PUNA_GEMV_OF(Format::kQ5_0);
PUNA_GEMV_OF(Format::kQ5_1);

}  // namespace puna::cuda
