// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime.h>

namespace puna::cuda {

// x / (1 + exp(-x)). Far below zero exp(x) is subnormal and loses digits: there it is exp(x + 40) exp(-40), rounded once at the
// end.
__device__ __forceinline__ float silu(float x) {
  if (x >= -64.0f || isnan(x)) return x / (1.0f + expf(-x));
  const float bounded = fmaxf(x, -150.0f);  // exp(-150) is 0
  return bounded * expf(bounded + 40.0f) * 0x1.397924p-58f;
}

}  // namespace puna::cuda
