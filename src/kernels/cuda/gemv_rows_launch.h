// SPDX-License-Identifier: Apache-2.0
// How the kernels of kernels/cuda/gemv_rows_kernel.h are launched: how many rows of X and W a block takes. Included where they are
// instantiated (gemv_rows.cu).
#pragma once

#include "kernels/cuda/gemv_launch.h"
#include "kernels/cuda/gemv_rows_kernel.h"

namespace puna::cuda {

// Of `partial` and `squares`.
constexpr std::size_t static_shared(int rows) {
  return sizeof(float) * static_cast<std::size_t>(rows) * (kMostBlockRows * kMostSplits + kGemvWarps);
}

template <Format F>
int template_rows_of(const SharedMemory& memory, std::int64_t rows, std::int64_t width) {
  const SharedX<F> shared(width);
  return template_rows(rows, [&](int t) { return shared.bytes(t) + static_shared(t) <= memory.of_block; });
}

template <Format F>
int gemv_rows(const GpuContext& gpu, std::int64_t rows, std::int64_t width) {
  if (!has_whole_pieces<F>(width) || width == 0 || width > kWidestGemv) return 0;
  return std::min(template_rows_of<F>(shared_memory(gpu), rows, width), static_cast<int>(rows));
}

template <Format F, int T>
void launch_gemv_of(GpuContext& gpu, const SharedMemory& memory, GemvWork& work) {
  const std::size_t shared = SharedX<F>(work.width).bytes(T);
  static std::atomic<std::uint64_t> allowed{0};  // a bit for each GPU
  allow_shared_once(gpu, gemv_rows_kernel<F, T>, memory.of_block - static_shared(T), allowed);
  const std::size_t of_block = shared + static_shared(T) + kReservedShared;
  const std::int64_t at_once = T <= 2 && 2 * of_block <= memory.of_processor ? 2 : 1;
  constexpr int kMultiple = kUnitRows<F, T>;
  const unsigned blocks = divide_rows(work, at_once * std::max(gpu.processors, 1), kMultiple, kMostBlockRows);
  launch(gpu, "gemv", gemv_rows_kernel<F, T>, blocks, kGemvThreads, shared, true, work);
}

template <Format F>
void launch_gemv(GpuContext& gpu, GemvWork& work) {
  const std::int64_t pieces = work.width / WeightPiece<F>::kValues;
  const std::int64_t loads = (pieces + 32 * kStepsAtOnce<F> - 1) / (32 * kStepsAtOnce<F>);  // of a warp that has a row to itself
  work.splits = static_cast<int>(std::min<std::int64_t>(loads, kMostSplits));
  const SharedMemory memory = shared_memory(gpu);
  const int rows = template_rows_of<F>(memory, work.rows, work.width);
  with_template(rows, [&]<int T>() { launch_gemv_of<F, T>(gpu, memory, work); });
}

template <Format F>
void launch_gemv_of_any(GpuContext& gpu, GemvWork& work) {
  const std::int64_t outputs = work.matrix[0].rows / (work.matrix[0].up != nullptr ? 2 : 1);
  launch(gpu, "gemv", gemv_of_any_rows_kernel<F>, blocks_for(outputs, kGemvWarps), kGemvThreads, 0, true, work);
}

}  // namespace puna::cuda
