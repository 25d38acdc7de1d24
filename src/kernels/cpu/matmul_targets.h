// SPDX-License-Identifier: Apache-2.0
// The parts of a product that are compiled once per instruction set (Highway's dynamic dispatch picks one at run time).
// Front: kernels/matmul.cc. All take a range of W's rows, so that threads share nothing they write.
#pragma once

#include <cstdint>

#include "kernels/activations.h"

namespace puna::cpu {

// Rows [begin, end) of X into the 8-bit form. AVX-512 takes kPanelWidth rows and more in panels; begin and end are then multiples
// of kPanelWidth, or x.rows.
void quantize_activations(const Activations& x, std::int64_t begin, std::int64_t end);

// Fewer than kPanelRows rows: F32, F16, BF16, F8E4M3; and every other format through its decoder. For more see gemm.h.
void matmul_float(const Activations& x, const RowRange& range);
// Quantized formats, where has_integer_dots().
bool has_integer_dots();
void matmul_integer(const Activations& x, const RowRange& range);

}  // namespace puna::cpu
