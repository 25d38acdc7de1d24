// SPDX-License-Identifier: Apache-2.0
// Products of few rows with weights in K blocks of 256 (kernels/cuda/gemv_cells_kernel.h).
#include "kernels/cuda/gemv_cells_launch.h"

namespace puna::cuda {

PUNA_GEMV_OF(Format::kQ4_K);
PUNA_GEMV_OF(Format::kQ5_K);
PUNA_GEMV_OF(Format::kQ6_K);

}  // namespace puna::cuda
