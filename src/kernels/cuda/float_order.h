// SPDX-License-Identifier: Apache-2.0
// Floats as whole numbers in the same order, which can be counted, split into digits and joined with a place.
#pragma once

#include <cuda_runtime.h>

namespace puna::cuda {

// Greater for the greater number; -0 is 0, and NaN is 0, below all numbers.
__device__ __forceinline__ unsigned ordered_bits(float value) {
  if (isnan(value)) return 0;
  const unsigned bits = __float_as_uint(value + 0.0f);  // -0 equals 0
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
// The number again, of what is not 0.
__device__ __forceinline__ float value_of(unsigned ordered) {
  return __uint_as_float(ordered & 0x80000000u ? ordered & 0x7fffffffu : ~ordered);
}

}  // namespace puna::cuda
