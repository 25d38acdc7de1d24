// SPDX-License-Identifier: Apache-2.0
// The product of two matrices in F32, which all products with many rows are: forward, and both gradients.
//   C [M, N] = A [M, K] B [K, N] (+ C)
// In the manner of Goto & van de Geijn (2008) and BLIS (Van Zee & van de Geijn, 2015): blocks of A and B are packed into the caches
// in the order in which a register tile reads them, and whatever their format or direction in memory, they are decoded and turned
// then. Sums run over K in runs of a fixed length: any split of C over threads gives equal bits.
#pragma once

#include <cstdint>

#include "kernels/device.h"
#include "tensor/tensor.h"

namespace puna::cpu {

// A matrix with one direction along K. Its rows in memory are K rows (kAlongRows) or hold K values each (kWithinRows).
enum class Depth { kAlongRows, kWithinRows };
struct GemmOperand {
  Depth depth;
  const float* values;  // rows `stride` apart, or nullptr:
  std::int64_t stride;
  const Tensor* weight;  // of any format, row scales included
};

struct Gemm {
  GemmOperand a, b;
  std::int64_t rows, columns, depth;  // M, N, K
  float* c;                           // rows `stride` apart
  std::int64_t stride;
  bool add;
};

// The part of C that one thread computes.
struct GemmRange {
  std::int64_t row_begin, row_end, column_begin, column_end;
};

void gemm(Device& device, const Gemm& product);

}  // namespace puna::cpu
