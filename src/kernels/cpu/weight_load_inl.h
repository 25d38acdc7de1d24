// SPDX-License-Identifier: Apache-2.0
// Weights of any format as F32, decoded exactly: vector by vector for the float formats, span by span for all.
// Compiled once per instruction set: included inside each target's namespace.
#if defined(PUNA_WEIGHT_LOAD_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef PUNA_WEIGHT_LOAD_INL
#undef PUNA_WEIGHT_LOAD_INL
#else
#define PUNA_WEIGHT_LOAD_INL
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "tensor/tensor.h"

HWY_BEFORE_NAMESPACE();
namespace puna::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::CappedTag<float, 16>;
using VecF32 = hn::Vec<F32>;

// Loads Lanes(F32) weights of a format, decoded exactly; `rest` loads fewer, the others zero.
template <Format kFormat>
struct WeightLoader;

template <>
struct WeightLoader<Format::kF32> {
  using Stored = float;
  static HWY_INLINE VecF32 decode(hn::Vec<F32> stored) { return stored; }
};
template <>
struct WeightLoader<Format::kF16> {
  using Stored = hwy::float16_t;
  static HWY_INLINE VecF32 decode(hn::Vec<hn::Rebind<Stored, F32>> stored) { return hn::PromoteTo(F32(), stored); }
};
template <>
struct WeightLoader<Format::kBF16> {
  using Stored = std::uint16_t;
  static HWY_INLINE VecF32 decode(hn::Vec<hn::Rebind<Stored, F32>> stored) {
    const hn::RebindToUnsigned<F32> u32;
    return hn::BitCast(F32(), hn::ShiftLeft<16>(hn::PromoteTo(u32, stored)));
  }
};
template <>
struct WeightLoader<Format::kF8E4M3> {
  using Stored = std::uint8_t;
  // The exponent's bias differs by 120: the bits in F32's place, times 2^120, are the value, subnormals included.
  static HWY_INLINE VecF32 decode(hn::Vec<hn::Rebind<Stored, F32>> stored) {
    const F32 f32;
    const hn::RebindToUnsigned<F32> u32;
    const auto bits = hn::PromoteTo(u32, stored);
    const auto magnitude = hn::And(bits, hn::Set(u32, 0x7fu));
    const auto sign = hn::ShiftLeft<24>(hn::And(bits, hn::Set(u32, 0x80u)));
    const auto value = hn::Mul(hn::BitCast(f32, hn::ShiftLeft<20>(magnitude)), hn::Set(f32, 0x1.0p120f));
    const auto nan = hn::RebindMask(f32, hn::Eq(magnitude, hn::Set(u32, 0x7fu)));
    return hn::Or(hn::IfThenElse(nan, hn::NaN(f32), value), hn::BitCast(f32, sign));
  }
};

template <Format kFormat>
HWY_INLINE VecF32 load_weights(const std::byte* row, std::int64_t k) {
  using Stored = typename WeightLoader<kFormat>::Stored;
  const hn::Rebind<Stored, F32> tag;
  return WeightLoader<kFormat>::decode(hn::LoadU(tag, reinterpret_cast<const Stored*>(row) + k));
}

// The last count < Lanes weights of a row.
template <Format kFormat>
HWY_INLINE VecF32 load_last_weights(const std::byte* row, std::int64_t k, std::size_t count) {
  using Stored = typename WeightLoader<kFormat>::Stored;
  std::array<Stored, 16> copy{};
  std::memcpy(static_cast<void*>(copy.data()), row + k * static_cast<std::int64_t>(sizeof(Stored)), count * sizeof(Stored));
  const hn::Rebind<Stored, F32> tag;
  return WeightLoader<kFormat>::decode(hn::LoadU(tag, copy.data()));
}

template <Format kFormat>
inline void decode_values(const std::byte* row, std::int64_t first, std::int64_t count, float* values) {
  const F32 f32;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(f32));
  std::int64_t k = 0;
  for (; k + lanes <= count; k += lanes) hn::StoreU(load_weights<kFormat>(row, first + k), f32, values + k);
  if (k < count) {
    std::array<float, 16> last{};
    hn::StoreU(load_last_weights<kFormat>(row, first + k, static_cast<std::size_t>(count - k)), f32, last.data());
    std::copy_n(last.begin(), count - k, values + k);
  }
}

// Values [first, first + count) of a row, without its row scale. Quantized formats: `first` is a multiple of the block.
inline void decode_span(const Tensor& w, const std::byte* row, std::int64_t first, std::int64_t count, float* values) {
  switch (w.format) {
    case Format::kF32:
      return decode_values<Format::kF32>(row, first, count, values);
    case Format::kF16:
      return decode_values<Format::kF16>(row, first, count, values);
    case Format::kBF16:
      return decode_values<Format::kBF16>(row, first, count, values);
    case Format::kF8E4M3:
      return decode_values<Format::kF8E4M3>(row, first, count, values);
    default:
      return info(w.format).decode(row + format_bytes(w.format, first), values, count);
  }
}

}  // namespace puna::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
