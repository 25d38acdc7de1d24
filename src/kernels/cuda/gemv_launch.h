// SPDX-License-Identifier: Apache-2.0
// How the kernels of kernels/cuda/gemv_kernel.h are launched: how many rows of X and W a block takes. Included where they are
// instantiated (gemv_float.cu, gemv_blocks.cu, gemv_super_blocks.cu).
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>

#include "kernels/cuda/gemv_kernel.h"

namespace puna::cuda {

inline constexpr std::array<int, 4> kGemvTemplates = {1, 2, 4, 7};  // rows of X

inline constexpr std::size_t kReservedShared = 1024;  // of every block, by CUDA

struct SharedMemory {
  std::size_t of_block, of_processor;
};
inline SharedMemory shared_memory(const GpuContext& gpu) {
  int of_block = 0, of_processor = 0;
  check(cudaDeviceGetAttribute(&of_block, cudaDevAttrMaxSharedMemoryPerBlockOptin, gpu.index), "gemv");
  check(cudaDeviceGetAttribute(&of_processor, cudaDevAttrMaxSharedMemoryPerMultiprocessor, gpu.index), "gemv");
  return {static_cast<std::size_t>(of_block), static_cast<std::size_t>(of_processor)};
}

// Of `partial` and `squares`.
constexpr std::size_t static_shared(int rows) {
  return sizeof(float) * static_cast<std::size_t>(rows) * (kMostBlockRows * kMostSplits + kGemvWarps);
}

// The rows of X of the smallest kernel that takes `rows`, or of the largest that fits.
template <Format F>
int template_rows(const SharedMemory& memory, std::int64_t rows, std::int64_t width) {
  const SharedX<F> shared(width);
  int best = 0;
  for (const int candidate : kGemvTemplates) {
    if (shared.bytes(candidate) + static_shared(candidate) > memory.of_block) break;
    best = candidate;
    if (candidate >= rows) break;
  }
  return best;
}

template <Format F>
int gemv_rows(const GpuContext& gpu, std::int64_t rows, std::int64_t width) {
  constexpr std::int64_t kWidest = std::int64_t{1} << 20;  // far beyond any shared memory: sizes below are 32-bit
  if (!has_whole_pieces<F>(width) || width == 0 || width > kWidest) return 0;
  return std::min(template_rows<F>(shared_memory(gpu), rows, width), static_cast<int>(rows));
}

// Rows of W for each block: all blocks run at once, or in as few waves as kMostBlockRows allows, and all are about as large.
inline unsigned divide_rows(GemvWork& work, std::int64_t blocks_at_once, int multiple) {
  std::int64_t rows = 0;
  for (int m = 0; m < work.matrices; ++m) rows += work.matrix[m].rows;
  const std::int64_t waves = (rows + blocks_at_once * kMostBlockRows - 1) / (blocks_at_once * kMostBlockRows);
  const std::int64_t blocks = waves * blocks_at_once;
  work.block_rows = static_cast<int>((rows + blocks * multiple - 1) / (blocks * multiple)) * multiple;
  for (;; work.block_rows += multiple) {
    std::int64_t used = 0;
    for (int m = 0; m < work.matrices; ++m) {
      work.matrix[m].first_block = used;
      used += blocks_for(work.matrix[m].rows, work.block_rows);
    }
    if (used <= blocks || work.block_rows + multiple > kMostBlockRows) return static_cast<unsigned>(used);
  }
}

template <Format F, int T>
void launch_gemv_of(GpuContext& gpu, const SharedMemory& memory, GemvWork& work) {
  const std::size_t shared = SharedX<F>(work.width).bytes(T);
  static std::atomic<std::uint64_t> allowed{0};  // a bit for each GPU
  const std::uint64_t bit = std::uint64_t{1} << (gpu.index % 64);
  if ((allowed.load() & bit) == 0) {
    allow_shared(gemv_kernel<F, T>, memory.of_block - static_shared(T), "gemv");
    allowed |= bit;
  }
  const std::size_t of_block = shared + static_shared(T) + kReservedShared;
  const std::int64_t at_once = T <= 2 && 2 * of_block <= memory.of_processor ? 2 : 1;
  constexpr int kMultiple = kUnitRows<F, T>;
  const unsigned blocks = divide_rows(work, at_once * std::max(gpu.processors, 1), kMultiple);
  launch(gpu, "gemv", gemv_kernel<F, T>, blocks, kGemvThreads, shared, true, work);
}

template <Format F>
void launch_gemv(GpuContext& gpu, GemvWork& work) {
  const std::int64_t pieces = work.width / WeightPiece<F>::kValues;
  const std::int64_t loads = (pieces + 32 * kStepsAtOnce<F> - 1) / (32 * kStepsAtOnce<F>);  // of a warp that has a row to itself
  work.splits = static_cast<int>(std::min<std::int64_t>(loads, kMostSplits));
  const SharedMemory memory = shared_memory(gpu);
  switch (template_rows<F>(memory, work.rows, work.width)) {
    case 1:
      return launch_gemv_of<F, 1>(gpu, memory, work);
    case 2:
      return launch_gemv_of<F, 2>(gpu, memory, work);
    case 4:
      return launch_gemv_of<F, 4>(gpu, memory, work);
    default:
      return launch_gemv_of<F, 7>(gpu, memory, work);
  }
}

template <Format F>
void launch_gemv_of_any(GpuContext& gpu, GemvWork& work) {
  const std::int64_t outputs = work.matrix[0].rows / (work.matrix[0].up != nullptr ? 2 : 1);
  launch(gpu, "gemv", gemv_of_any_kernel<F>, blocks_for(outputs, kGemvWarps), kGemvThreads, 0, true, work);
}

#define PUNA_GEMV_OF(format)                                                                \
  template int gemv_rows<format>(const GpuContext&, std::int64_t rows, std::int64_t width); \
  template void launch_gemv<format>(GpuContext&, GemvWork&);                                \
  template void launch_gemv_of_any<format>(GpuContext&, GemvWork&)

}  // namespace puna::cuda
