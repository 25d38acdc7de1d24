// SPDX-License-Identifier: Apache-2.0
// The product of two dense matrices in the GPU's memory by cuBLASLt, which all products of many rows come to: forward and both
// gradients.
//   C [M, N] = A [M, K] B [K, N] (+ D)      sums in F32 (F8E4M3 on Hopper: in its tensor cores' fast mode)
// What cuBLASLt chooses for a shape is asked for once and kept in the context.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/context.h"
#include "tensor/format.h"

namespace puna::cuda {

// A matrix with one direction along K. Its rows in memory are K rows (kAlongRows) or hold K values each (kWithinRows).
enum class Depth { kAlongRows, kWithinRows };
struct DenseOperand {
  const void* values;
  std::int64_t stride;  // values from row to row
  Depth depth;
  const float* scales = nullptr;  // F8E4M3: [M] of A, [N] of B
};

struct DenseProduct {
  Format format;  // of A and B: F32, F16, BF16, or F8E4M3 with both depths kWithinRows
  DenseOperand a, b;
  std::int64_t rows, columns, depth;  // M, N, K; none is 0
  float* c;                           // rows `stride` apart
  std::int64_t stride;
  const float* added = nullptr;  // D, rows `stride` apart; may be c
};

// Whether cuBLASLt has a kernel for such a product on this GPU. Asks only; nothing is computed.
bool can_multiply(GpuContext& gpu, const DenseProduct& product);
// False where it has none; then nothing was written.
bool try_multiply(GpuContext& gpu, const DenseProduct& product);
// Throws kUnsupported where it has none.
void multiply(GpuContext& gpu, const DenseProduct& product);

// Part of gpu.workspace that products leave alone: for what their operands are made of.
struct Room {
  std::byte* data;
  std::int64_t bytes;
};
Room room_beside_products(const GpuContext& gpu);

}  // namespace puna::cuda
