// SPDX-License-Identifier: Apache-2.0
// Sums, maxima and running sums over the threads of a block, each in one fixed order. blockDim.x is a multiple of 32; all threads
// call them.
#pragma once

#include <cuda_runtime.h>

namespace puna::cuda {

struct Sum {
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Largest {  // NaN counts as nothing
  __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

struct Greatest {
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};

template <typename T, typename Join>
__device__ __forceinline__ T warp_reduce(T value, Join join) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) value = join(value, __shfl_xor_sync(0xffffffffu, value, lanes));
  return value;
}

// Every thread gets the result.
template <typename T, typename Join>
__device__ __forceinline__ T block_reduce(T value, Join join) {
  __shared__ T of_warp[32];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  value = warp_reduce(value, join);
  __syncthreads();  // an earlier result has been read by all
  if (lane == 0) of_warp[warp] = value;
  __syncthreads();
  value = of_warp[0];
  for (int w = 1; w < static_cast<int>(blockDim.x) / 32; ++w) value = join(value, of_warp[w]);
  return value;
}

// The sum of the values of all threads before this one.
__device__ __forceinline__ int sum_before(int value) {
  __shared__ int of_warp[32];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  int sum = value;  // of the lanes up to this one
#pragma unroll
  for (int lanes = 1; lanes < 32; lanes *= 2) {
    const int before = __shfl_up_sync(0xffffffffu, sum, lanes);
    if (lane >= lanes) sum += before;
  }
  __syncthreads();  // an earlier result has been read by all
  if (lane == 31) of_warp[warp] = sum;
  __syncthreads();
  sum -= value;
  for (int w = 0; w < warp; ++w) sum += of_warp[w];
  return sum;
}

}  // namespace puna::cuda
