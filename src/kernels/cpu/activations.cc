// SPDX-License-Identifier: Apache-2.0
// The form of X that integer products read: 8 bits in blocks of 32. AVX-512 reads 32 rows and more in panels of 32 with K
// outermost, so that one vector holds the same k of many rows and the weight is what is broadcast.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/activations.cc"
#include "kernels/cpu/targets.h"
// targets.h comes first
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "kernels/cpu/matmul_targets.h"
#include "kernels/cpu/transpose_inl.h"

HWY_BEFORE_NAMESPACE();
namespace puna::HWY_NAMESPACE {
namespace {

// x [32] -> q [32], sums [2] of 16 q's; returns the scale.
HWY_INLINE float quantize_block(const float* HWY_RESTRICT x, std::int8_t* HWY_RESTRICT q, std::int32_t* HWY_RESTRICT sums) {
  const hn::CappedTag<float, 16> f32;
  const hn::RebindToSigned<decltype(f32)> i32;
  const hn::Rebind<std::int8_t, decltype(f32)> i8;
  const std::size_t lanes = hn::Lanes(f32);
  auto largest = hn::Zero(f32);
  for (std::size_t i = 0; i < 32; i += lanes) largest = hn::Max(largest, hn::Abs(hn::LoadU(f32, x + i)));
  const float peak = hn::GetLane(hn::MaxOfLanes(f32, largest));
  const float inverse = peak > 0x1p-110f ? 127.0f / peak : 0.0f;  // below, 127 / peak is infinite
  for (std::size_t half = 0; half < 2; ++half) {
    auto sum = hn::Zero(i32);
    for (std::size_t i = half * 16; i < half * 16 + 16; i += lanes) {
      const auto rounded = hn::NearestInt(hn::Mul(hn::LoadU(f32, x + i), hn::Set(f32, inverse)));
      sum = hn::Add(sum, rounded);
      hn::StoreU(hn::DemoteTo(i8, rounded), i8, q + i);
    }
    sums[half] = hn::GetLane(hn::SumOfLanes(i32, sum));
  }
  return peak / 127.0f;
}

// x [K] -> q [K], scales [K / 32], sums [K / 16].
void quantize_row(const float* x, std::int64_t width, std::int8_t* q, float* scales, std::int32_t* sums) {
  for (std::int64_t block = 0; block < width / 32; ++block) {
    scales[block] = quantize_block(x + block * 32, q + block * 32, sums + block * 2);
  }
}

#if HWY_TARGET == HWY_AVX3_DL
// One panel: rows [first, last) of X, at most kPanelWidth, the rest zeros.
void quantize_panel(const Activations& x, std::int64_t first, std::int64_t last) {
  constexpr std::int64_t kSpan = 256;  // values of K quantized at a time, so that the row-major form stays in the first cache
  const std::int64_t panel = first / kPanelWidth, width = x.width;
  std::int8_t* const q = x.quantized.q + panel * width * kPanelWidth;
  float* const scales = x.quantized.scales + panel * (width / 32) * kPanelWidth;
  std::int32_t* const sums = x.quantized.sums + panel * (width / 16) * kPanelWidth;
  alignas(64) std::array<std::int8_t, kSpan * kPanelWidth> row_q{};           // [W, span]
  alignas(64) std::array<float, kSpan / 32 * kPanelWidth> row_scales{};       // [W, span / 32]
  alignas(64) std::array<std::int32_t, kSpan / 16 * kPanelWidth> row_sums{};  // [W, span / 16]
  const auto words = [](auto* pointer) { return reinterpret_cast<float*>(pointer); };
  for (std::int64_t k = 0; k < width; k += kSpan) {
    const std::int64_t span = std::min(kSpan, width - k);
    for (std::int64_t row = first; row < last; ++row) {
      const std::int64_t r = row - first;
      quantize_row(x.values + row * width + k, span, &row_q[r * kSpan], &row_scales[r * (kSpan / 32)], &row_sums[r * (kSpan / 16)]);
    }
    transpose(words(row_q.data()), kSpan / 4, kPanelWidth, span / 4, words(q + k * kPanelWidth), kPanelWidth);
    transpose(row_scales.data(), kSpan / 32, kPanelWidth, span / 32, scales + k / 32 * kPanelWidth, kPanelWidth);
    transpose(words(row_sums.data()), kSpan / 16, kPanelWidth, span / 16, words(sums + k / 16 * kPanelWidth), kPanelWidth);
  }
}
#endif

}  // namespace

void quantize_activations(const Activations& x, std::int64_t begin, std::int64_t end) {
#if HWY_TARGET == HWY_AVX3_DL
  if (x.rows >= kPanelWidth) {
    for (std::int64_t row = begin; row < end; row += kPanelWidth) quantize_panel(x, row, std::min(row + kPanelWidth, end));
    return;
  }
#endif
  for (std::int64_t row = begin; row < end; ++row) {
    quantize_row(x.values + row * x.width, x.width, x.quantized.q + row * x.width, x.quantized.scales + row * (x.width / 32),
                 x.quantized.sums + row * (x.width / 16));
  }
}

}  // namespace puna::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace puna::cpu {

HWY_EXPORT(quantize_activations);

void quantize_activations(const Activations& x, std::int64_t begin, std::int64_t end) {
  HWY_DYNAMIC_DISPATCH(quantize_activations)(x, begin, end);
}

}  // namespace puna::cpu
#endif
