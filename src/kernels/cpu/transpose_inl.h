// SPDX-License-Identifier: Apache-2.0
// Transposes of 32-bit numbers, four rows at a time. Compiled once per instruction set: included inside each target's namespace.
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

// Block q of four numbers -> to + q * 4 * stride.
template <class D>
HWY_INLINE void store_blocks(D d, hn::Vec<D> v, float* HWY_RESTRICT to, std::int64_t stride) {
  if constexpr (hn::MaxLanes(D()) > 4) {
    const hn::Half<D> half;
    store_blocks(half, hn::LowerHalf(half, v), to, stride);
    store_blocks(half, hn::UpperHalf(half, v), to + static_cast<std::int64_t>(hn::MaxLanes(d)) / 2 * stride, stride);
  } else {
    hn::StoreU(v, d, to);
  }
}

// from [4, lanes] (rows from_stride apart) -> to [lanes, 4] (rows to_stride apart): a transpose in each block of four columns.
template <class D>
HWY_INLINE void transpose_four_rows(D f32, const float* HWY_RESTRICT from, std::int64_t from_stride, float* HWY_RESTRICT to,
                                    std::int64_t to_stride) {
  const hn::RepartitionToWide<D> f64;
  const auto a = hn::LoadU(f32, from);
  const auto b = hn::LoadU(f32, from + from_stride);
  const auto c = hn::LoadU(f32, from + 2 * from_stride);
  const auto d = hn::LoadU(f32, from + 3 * from_stride);
  const auto ab_low = hn::BitCast(f64, hn::InterleaveLower(f32, a, b));   // a0 b0 a1 b1
  const auto ab_high = hn::BitCast(f64, hn::InterleaveUpper(f32, a, b));  // a2 b2 a3 b3
  const auto cd_low = hn::BitCast(f64, hn::InterleaveLower(f32, c, d));
  const auto cd_high = hn::BitCast(f64, hn::InterleaveUpper(f32, c, d));
  store_blocks(f32, hn::BitCast(f32, hn::InterleaveLower(f64, ab_low, cd_low)), to, to_stride);
  store_blocks(f32, hn::BitCast(f32, hn::InterleaveUpper(f64, ab_low, cd_low)), to + to_stride, to_stride);
  store_blocks(f32, hn::BitCast(f32, hn::InterleaveLower(f64, ab_high, cd_high)), to + 2 * to_stride, to_stride);
  store_blocks(f32, hn::BitCast(f32, hn::InterleaveUpper(f64, ab_high, cd_high)), to + 3 * to_stride, to_stride);
}

// from [rows, columns] -> to [columns, rows]. Also moves groups of four bytes: only bits are copied.
inline void transpose(const float* HWY_RESTRICT from, std::int64_t from_stride, std::int64_t rows, std::int64_t columns,
                      float* HWY_RESTRICT to, std::int64_t to_stride) {
  const hn::CappedTag<float, 16> wide;
  const hn::FixedTag<float, 4> four;
  constexpr auto kWide = static_cast<std::int64_t>(hn::MaxLanes(hn::CappedTag<float, 16>()));
  const std::int64_t whole_rows = rows / 4 * 4, whole_columns = columns / 4 * 4;
  for (std::int64_t r = 0; r < whole_rows; r += 4) {
    const float* const row = from + r * from_stride;
    std::int64_t c = 0;
    for (; c + kWide <= columns; c += kWide) transpose_four_rows(wide, row + c, from_stride, to + c * to_stride + r, to_stride);
    for (; c < whole_columns; c += 4) transpose_four_rows(four, row + c, from_stride, to + c * to_stride + r, to_stride);
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = r < whole_rows ? whole_columns : 0; c < columns; ++c) to[c * to_stride + r] = from[r * from_stride + c];
  }
}

}  // namespace puna::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
