// SPDX-License-Identifier: Apache-2.0
// How much memory the blocks of kernels/cuda/gemv.h's kernels share, and how many rows of X their instances take.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>

#include "kernels/cuda/gemv_work.h"

namespace puna::cuda {

inline constexpr std::array<int, 4> kGemvTemplates = {1, 2, 4, 7};  // rows of X

inline constexpr std::size_t kReservedShared = 1024;                // of every block, by CUDA
inline constexpr std::int64_t kWidestGemv = std::int64_t{1} << 20;  // far beyond any shared memory: sizes below are 32-bit

struct SharedMemory {
  std::size_t of_block, of_processor;
};
inline SharedMemory shared_memory(const GpuContext& gpu) {
  int of_block = 0, of_processor = 0;
  check(cudaDeviceGetAttribute(&of_block, cudaDevAttrMaxSharedMemoryPerBlockOptin, gpu.index), "gemv");
  check(cudaDeviceGetAttribute(&of_processor, cudaDevAttrMaxSharedMemoryPerMultiprocessor, gpu.index), "gemv");
  return {static_cast<std::size_t>(of_block), static_cast<std::size_t>(of_processor)};
}

// The rows of X of the smallest instance that takes `rows`, or of the largest that fits.
template <typename Fits>
int template_rows(std::int64_t rows, const Fits& fits) {
  int best = 0;
  for (const int candidate : kGemvTemplates) {
    if (!fits(candidate)) break;
    best = candidate;
    if (candidate >= rows) break;
  }
  return best;
}

// act<T>() for the instance of so many rows.
template <typename Act>
auto with_template(int rows, const Act& act) {
  switch (rows) {
    case 1:
      return act.template operator()<1>();
    case 2:
      return act.template operator()<2>();
    case 4:
      return act.template operator()<4>();
    default:
      return act.template operator()<7>();
  }
}

// Once for each kernel and GPU.
template <typename Kernel>
void allow_shared_once(const GpuContext& gpu, Kernel* kernel, std::size_t bytes, std::atomic<std::uint64_t>& allowed) {
  const std::uint64_t bit = std::uint64_t{1} << (gpu.index % 64);
  if ((allowed.load() & bit) != 0) return;
  allow_shared(kernel, bytes, "gemv");
  allowed |= bit;
}

// Rows of W for each block, a multiple of `multiple` and at most `most`: all blocks run at once, or in as few waves as that allows,
// and all are about as large.
inline unsigned divide_rows(GemvWork& work, std::int64_t blocks_at_once, int multiple, int most) {
  std::int64_t rows = 0;
  for (int m = 0; m < work.matrices; ++m) rows += work.matrix[m].rows;
  const std::int64_t waves = (rows + blocks_at_once * most - 1) / (blocks_at_once * most);
  const std::int64_t blocks = waves * blocks_at_once;
  work.block_rows = static_cast<int>((rows + blocks * multiple - 1) / (blocks * multiple)) * multiple;
  for (;; work.block_rows += multiple) {
    std::int64_t used = 0;
    for (int m = 0; m < work.matrices; ++m) {
      work.matrix[m].first_block = used;
      used += blocks_for(work.matrix[m].rows, work.block_rows);
    }
    if (used <= blocks || work.block_rows + multiple > most) return static_cast<unsigned>(used);
  }
}

}  // namespace puna::cuda
