// SPDX-License-Identifier: Apache-2.0
// Rows of one head of a packed batch as products read them: in whole vectors.
// Compiled once per instruction set: included inside each target's namespace.
#if defined(PUNA_PACKED_ROWS_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef PUNA_PACKED_ROWS_INL
#undef PUNA_PACKED_ROWS_INL
#else
#define PUNA_PACKED_ROWS_INL
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/transpose_inl.h"

HWY_BEFORE_NAMESPACE();
namespace puna {
namespace HWY_NAMESPACE {

struct RowView {
  const float* values;
  std::int64_t stride;
};

// rows [count, width] as they lie where width is whole vectors, else a copy in `room` [count, padded].
inline RowView padded_rows(RowView rows, std::int64_t count, std::int64_t width, std::int64_t padded, float* room) {
  if (padded == width) return rows;
  for (std::int64_t r = 0; r < count; ++r) {
    std::copy_n(rows.values + r * rows.stride, width, room + r * padded);
    std::fill(room + r * padded + width, room + (r + 1) * padded, 0.0f);
  }
  return {room, padded};
}

}  // namespace HWY_NAMESPACE
}  // namespace puna
HWY_AFTER_NAMESPACE();

#endif
