// SPDX-License-Identifier: Apache-2.0
// Transposes of 32-bit numbers in tiles of 4 × 4. Compiled once per instruction set: included inside each target's namespace.
#if defined(PUNA_TRANSPOSE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef PUNA_TRANSPOSE_INL
#undef PUNA_TRANSPOSE_INL
#else
#define PUNA_TRANSPOSE_INL
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace puna::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// from [4, 4] (rows from_stride apart) -> to [4, 4] (rows to_stride apart), transposed.
HWY_INLINE void transpose_4x4(const float* HWY_RESTRICT from, std::int64_t from_stride, float* HWY_RESTRICT to,
                              std::int64_t to_stride) {
  const hn::FixedTag<float, 4> f32;
  const hn::RepartitionToWide<decltype(f32)> f64;
  const auto a = hn::LoadU(f32, from);
  const auto b = hn::LoadU(f32, from + from_stride);
  const auto c = hn::LoadU(f32, from + 2 * from_stride);
  const auto d = hn::LoadU(f32, from + 3 * from_stride);
  const auto ab_low = hn::BitCast(f64, hn::InterleaveLower(f32, a, b));   // a0 b0 a1 b1
  const auto ab_high = hn::BitCast(f64, hn::InterleaveUpper(f32, a, b));  // a2 b2 a3 b3
  const auto cd_low = hn::BitCast(f64, hn::InterleaveLower(f32, c, d));
  const auto cd_high = hn::BitCast(f64, hn::InterleaveUpper(f32, c, d));
  hn::StoreU(hn::BitCast(f32, hn::InterleaveLower(f64, ab_low, cd_low)), f32, to);
  hn::StoreU(hn::BitCast(f32, hn::InterleaveUpper(f64, ab_low, cd_low)), f32, to + to_stride);
  hn::StoreU(hn::BitCast(f32, hn::InterleaveLower(f64, ab_high, cd_high)), f32, to + 2 * to_stride);
  hn::StoreU(hn::BitCast(f32, hn::InterleaveUpper(f64, ab_high, cd_high)), f32, to + 3 * to_stride);
}

// from [rows, columns] -> to [columns, rows]. Also moves groups of four bytes: only bits are copied.
inline void transpose(const float* HWY_RESTRICT from, std::int64_t from_stride, std::int64_t rows, std::int64_t columns,
                      float* HWY_RESTRICT to, std::int64_t to_stride) {
  const std::int64_t whole_rows = rows / 4 * 4, whole_columns = columns / 4 * 4;
  for (std::int64_t r = 0; r < whole_rows; r += 4) {
    for (std::int64_t c = 0; c < whole_columns; c += 4) {
      transpose_4x4(from + r * from_stride + c, from_stride, to + c * to_stride + r, to_stride);
    }
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = r < whole_rows ? whole_columns : 0; c < columns; ++c) to[c * to_stride + r] = from[r * from_stride + c];
  }
}

}  // namespace puna::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
