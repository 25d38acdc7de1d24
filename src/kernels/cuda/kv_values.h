// SPDX-License-Identifier: Apache-2.0
// The numbers that pages of keys and values hold on a GPU: F32, F16, BF16 and F8E4M3, rounded to nearest even and widened exactly.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include "base/error.h"
#include "tensor/format.h"

namespace puna::cuda {

struct Float8 {  // E4M3
  __nv_fp8_storage_t bits;
};

__device__ __forceinline__ float widened(float x) { return x; }
__device__ __forceinline__ float widened(__half x) { return __half2float(x); }
__device__ __forceinline__ float widened(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float widened(Float8 x) { return __half2float(__half(__nv_cvt_fp8_to_halfraw(x.bits, __NV_E4M3))); }

template <class Value>
__device__ __forceinline__ Value rounded(float x);
template <>
__device__ __forceinline__ float rounded<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ __half rounded<__half>(float x) {
  return __float2half_rn(x);
}
template <>
__device__ __forceinline__ __nv_bfloat16 rounded<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}
template <>
__device__ __forceinline__ Float8 rounded<Float8>(float x) {
  return {__nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E4M3)};  // ±448 at most
}

// A pair of channels turned by the angle of the given cosine and sine (kernels/rope.h): the same bits wherever it is done.
__device__ __forceinline__ float2 turned_pair(float a, float b, float cosine, float sine) {
  return make_float2(fmaf(a, cosine, -(b * sine)), fmaf(a, sine, b * cosine));
}

// use(Value{}) with the type of the numbers.
template <class Use>
void with_kv_values(Format format, const char* where, Use&& use) {
  switch (format) {
    case Format::kF32:
      return use(float{});
    case Format::kF16:
      return use(__half{});
    case Format::kBF16:
      return use(__nv_bfloat16{});
    case Format::kF8E4M3:
      return use(Float8{});
    default:
      fail(ErrorKind::kInternal, where, "keys and values in {} on a GPU, expected f32, f16, bf16 or f8_e4m3", info(format).name);
  }
}

}  // namespace puna::cuda
