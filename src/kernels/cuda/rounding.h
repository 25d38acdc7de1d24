// SPDX-License-Identifier: Apache-2.0
// Narrow floating-point numbers to F32 and back, to nearest, ties to even.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <type_traits>

namespace puna::cuda {

struct E4M3 {
  __nv_fp8_storage_t bits;
};

// 65520 and more are infinite in F16; F8E4M3 saturates at 448.
template <typename To>
__device__ __forceinline__ To rounded_to(float value) {
  if constexpr (std::is_same_v<To, __half>) {
    return __float2half_rn(value);
  } else if constexpr (std::is_same_v<To, __nv_bfloat16>) {
    return __float2bfloat16_rn(value);
  } else {
    static_assert(std::is_same_v<To, E4M3>);
    return {__nv_cvt_float_to_fp8(value, __NV_SATFINITE, __NV_E4M3)};
  }
}

// The same, but F16 saturates too. A NaN stays one.
template <typename To>
__device__ __forceinline__ To saturated_to(float value) {
  if constexpr (std::is_same_v<To, __half>) value = value > 65504.0f ? 65504.0f : value < -65504.0f ? -65504.0f : value;
  return rounded_to<To>(value);
}

__device__ __forceinline__ float widened(float value) { return value; }
__device__ __forceinline__ float widened(__half value) { return __half2float(value); }
__device__ __forceinline__ float widened(__nv_bfloat16 value) { return __bfloat162float(value); }
__device__ __forceinline__ float widened(E4M3 value) {
  return __half2float(__half(__nv_cvt_fp8_to_halfraw(value.bits, __NV_E4M3)));
}

}  // namespace puna::cuda
