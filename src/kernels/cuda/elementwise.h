// SPDX-License-Identifier: Apache-2.0
// Kernels that treat every number alike: an operation on four neighbours at a time where all pointers allow it, on one elsewhere.
// Bound by memory: a thread's loads are 16 bytes wide and neighbouring threads read neighbouring bytes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/cuda/context.h"
#include "kernels/cuda/mma.h"

namespace puna::cuda {

// N neighbours in memory, moved by one instruction.
template <typename T, int N>
struct alignas(sizeof(T) * N) Pack {
  T v[N];
};
template <int N, typename T>
__device__ __forceinline__ Pack<T, N> load(const T* from) {
  return *reinterpret_cast<const Pack<T, N>*>(from);
}
template <typename T, int N>
__device__ __forceinline__ void store(T* to, const Pack<T, N>& values) {
  *reinterpret_cast<Pack<T, N>*>(to) = values;
}

// Whether packs of four lie at every multiple of four values from each pointer. nullptr counts as aligned.
template <typename... T>
bool holds_packs(const T*... pointers) {
  return ((reinterpret_cast<std::uintptr_t>(pointers) % (4 * sizeof(T)) == 0) && ...);
}

inline constexpr int kElementThreads = 256;

// Operation: template <int N> __device__ void at(std::int64_t i) const, for values [i, i + N).
template <typename Operation>
__global__ void __launch_bounds__(kElementThreads) each_value(Operation operation, std::int64_t count, bool in_packs) {
  wait_for_previous_kernel();
  allow_next_kernel();
  const std::int64_t first = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
  const std::int64_t step = gridDim.x * static_cast<std::int64_t>(blockDim.x);
  const std::int64_t packs = in_packs ? count / 4 : 0;
  for (std::int64_t i = first; i < packs; i += step) operation.template at<4>(i * 4);
  for (std::int64_t i = packs * 4 + first; i < count; i += step) operation.template at<1>(i);
}

template <typename Operation>
void for_each_value(GpuContext& gpu, const char* what, const Operation& operation, std::int64_t count, bool in_packs) {
  if (count <= 0) return;
  const std::int64_t units = in_packs ? (count + 3) / 4 : count;
  const std::int64_t most = std::max(gpu.processors, 1) * std::int64_t{32};  // four waves of full processors
  const unsigned blocks = static_cast<unsigned>(std::min<std::int64_t>(blocks_for(units, kElementThreads), most));
  launch(gpu, what, each_value<Operation>, blocks, kElementThreads, 0, true, operation, count, in_packs);
}

}  // namespace puna::cuda
