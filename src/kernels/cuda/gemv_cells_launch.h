// SPDX-License-Identifier: Apache-2.0
// How the kernels of kernels/cuda/gemv_cells_kernel.h are launched: how many rows of X a block takes, how many tiles of W, and how
// deep its ring is. Included where they are instantiated (gemv_cells_blocks.cu, gemv_cells_super_blocks.cu).
#pragma once

#include "kernels/cuda/gemv_cells_kernel.h"
#include "kernels/cuda/gemv_launch.h"

namespace puna::cuda {

inline constexpr std::size_t kMostPartialBytes = 72 << 10;  // of the sums of a block's rows

// Warps that share the sums of a tile: 2^split_bits_of().
inline int split_bits_of(std::int64_t width) {
  int bits = 0;
  while (2 << bits <= kGemvWarps && cells_of(width) % (2 << bits) == 0) ++bits;
  return bits;
}

constexpr std::size_t static_shared_of_cells(int rows) {  // squares and barriers
  return sizeof(float) * static_cast<std::size_t>(rows * kGemvWarps) + 2 * kMostSlots * sizeof(std::uint64_t);
}

// Of sums, and of the residual that comes on top.
constexpr std::size_t partial_bytes(int rows, int block_rows, int splits) {
  return sizeof(float) * static_cast<std::size_t>(rows * block_rows * (splits + 1));
}

// Of the smallest block: two slots, and one tile or a gated pair.
template <Format F, int T>
std::size_t least_shared(std::int64_t width) {
  return static_cast<std::size_t>(SharedDigits<F, T>(width).bytes) + partial_bytes(T, 2 * kTileRows, 1 << split_bits_of(width)) +
         2 * kSlotBytes<F> + static_shared_of_cells(T);
}

template <Format F>
int template_rows_of(const SharedMemory& memory, std::int64_t rows, std::int64_t width) {
  return template_rows(
      rows, [&](int t) { return with_template(t, [&]<int T>() { return least_shared<F, T>(width); }) <= memory.of_block; });
}

template <Format F>
int gemv_rows(const GpuContext& gpu, std::int64_t rows, std::int64_t width) {
  if (width == 0 || width > kWidestGemv) return 0;
  return std::min(template_rows_of<F>(shared_memory(gpu), rows, width), static_cast<int>(rows));
}

// As many as there is room for, an even number.
inline int slots_for(const SharedMemory& memory, std::size_t other, std::size_t slot) {
  return 2 * static_cast<int>(std::clamp<std::size_t>((memory.of_block - other) / slot / 2, 1, kMostSlots / 2));
}

template <Format F, int T>
void launch_gemv_of(GpuContext& gpu, const SharedMemory& memory, GemvWork& work) {
  const auto digits = static_cast<std::size_t>(SharedDigits<F, T>(work.width).bytes);
  static std::atomic<std::uint64_t> allowed{0};  // a bit for each GPU
  allow_shared_once(gpu, gemv_cells_kernel<F, T>, memory.of_block - static_shared_of_cells(T), allowed);
  const std::size_t room = memory.of_block - static_shared_of_cells(T) - 2 * kSlotBytes<F> - digits;
  const int multiple = work.matrix[0].up != nullptr ? 2 * kTileRows : kTileRows;
  const auto rows_in_room = static_cast<int>(std::min(room, kMostPartialBytes) / partial_bytes(T, 1, work.splits));
  const unsigned blocks =
      divide_rows(work, std::max(gpu.processors, 1), multiple, std::max(rows_in_room / multiple * multiple, multiple));
  const std::size_t other = digits + partial_bytes(T, work.block_rows, work.splits);
  work.slots = slots_for(memory, other + static_shared_of_cells(T), kSlotBytes<F>);
  launch(gpu, "gemv", gemv_cells_kernel<F, T>, blocks, kCellsThreads, other + static_cast<std::size_t>(work.slots) * kSlotBytes<F>,
         true, work);
}

template <Format F>
void launch_gemv(GpuContext& gpu, GemvWork& work) {
  work.split_bits = split_bits_of(work.width);
  work.splits = 1 << work.split_bits;
  const SharedMemory memory = shared_memory(gpu);
  const int rows = template_rows_of<F>(memory, work.rows, work.width);
  with_template(rows, [&]<int T>() { launch_gemv_of<F, T>(gpu, memory, work); });
}

template <Format F>
void launch_gemv_of_any(GpuContext& gpu, GemvWork& work) {
  const std::int64_t outputs = work.matrix[0].rows / (work.matrix[0].up != nullptr ? 2 : 1);
  const unsigned blocks = blocks_for(tiles_of(outputs), kGemvWarps);
  launch(gpu, "gemv", gemv_of_any_cells_kernel<F>, blocks, kGemvThreads, 0, true, work);
}

}  // namespace puna::cuda
