// SPDX-License-Identifier: Apache-2.0
// Products in F32 of few rows of X, as dots along K: weights in F32, F16, BF16 or F8E4M3, and any other format through its decoder.
// Many rows: kernels/cpu/gemm.h.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/matmul_float.cc"
#include "kernels/cpu/targets.h"
// targets.h comes first
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <array>

#include "kernels/cpu/matmul_targets.h"
#include "kernels/cpu/weight_load_inl.h"

HWY_BEFORE_NAMESPACE();
namespace puna::HWY_NAMESPACE {
namespace {

HWY_INLINE VecF32 load_last(const float* x, std::size_t count) {
  std::array<float, 16> copy{};
  std::copy_n(x, count, copy.begin());
  return hn::LoadU(F32(), copy.data());
}

// w [K] · x [K]: four vectors of sums, added in pairs at the end. Weights are asked for into the second-level cache: the first
// one's few pending lines are left to the loads.
template <Format kFormat>
float dot(const std::byte* HWY_RESTRICT w, const float* HWY_RESTRICT x, std::int64_t width) {
  constexpr std::int64_t kAheadBytes = 1024;
  const F32 f32;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(f32));
  constexpr auto kStored = static_cast<std::int64_t>(sizeof(typename WeightLoader<kFormat>::Stored));
  auto a = hn::Zero(f32), b = a, c = a, d = a;
  std::int64_t k = 0;
  for (; k + 4 * lanes <= width; k += 4 * lanes) {
    for (std::int64_t line = 0; line < 4 * lanes * kStored; line += 64)
      __builtin_prefetch(w + k * kStored + kAheadBytes + line, 0, 2);
    a = hn::MulAdd(load_weights<kFormat>(w, k), hn::LoadU(f32, x + k), a);
    b = hn::MulAdd(load_weights<kFormat>(w, k + lanes), hn::LoadU(f32, x + k + lanes), b);
    c = hn::MulAdd(load_weights<kFormat>(w, k + 2 * lanes), hn::LoadU(f32, x + k + 2 * lanes), c);
    d = hn::MulAdd(load_weights<kFormat>(w, k + 3 * lanes), hn::LoadU(f32, x + k + 3 * lanes), d);
  }
  for (; k + lanes <= width; k += lanes) a = hn::MulAdd(load_weights<kFormat>(w, k), hn::LoadU(f32, x + k), a);
  if (k < width) {
    const auto count = static_cast<std::size_t>(width - k);
    b = hn::MulAdd(load_last_weights<kFormat>(w, k, count), load_last(x + k, count), b);
  }
  return hn::GetLane(hn::SumOfLanes(f32, hn::Add(hn::Add(a, b), hn::Add(c, d))));
}

// Values of a row that are decoded at a time.
constexpr std::int64_t kSpan = 1024;

template <Format kFormat>
void multiply_rows_of(const Activations& x, const RowRange& range) {
  const Product& product = *range.product;
  const Tensor& w = *product.weight;
  for (std::int64_t n = range.begin; n < range.end; ++n) {
    for (std::int64_t t = 0; t < x.rows; ++t) {
      product.y[t * product.stride + n] = dot<kFormat>(w.row(n), x.values + t * x.width, x.width) * w.row_scale(n);
    }
  }
}

// Formats without a dot: span by span through the decoder.
void multiply_decoded_rows(const Activations& x, const RowRange& range) {
  const Product& product = *range.product;
  const Tensor& w = *product.weight;
  std::array<float, kSpan> values;
  for (std::int64_t n = range.begin; n < range.end; ++n) {
    for (std::int64_t t = 0; t < x.rows; ++t) product.y[t * product.stride + n] = 0;
    for (std::int64_t k = 0; k < x.width; k += kSpan) {
      const std::int64_t span = std::min(kSpan, x.width - k);
      decode_span(w, w.row(n), k, span, values.data());
      for (std::int64_t t = 0; t < x.rows; ++t) {
        product.y[t * product.stride + n] +=
            dot<Format::kF32>(reinterpret_cast<const std::byte*>(values.data()), x.values + t * x.width + k, span);
      }
    }
  }
}

}  // namespace

void matmul_float(const Activations& x, const RowRange& range) {
  switch (range.product->weight->format) {
    case Format::kF32:
      return multiply_rows_of<Format::kF32>(x, range);
    case Format::kF16:
      return multiply_rows_of<Format::kF16>(x, range);
    case Format::kBF16:
      return multiply_rows_of<Format::kBF16>(x, range);
    case Format::kF8E4M3:
      return multiply_rows_of<Format::kF8E4M3>(x, range);
    default:
      return multiply_decoded_rows(x, range);
  }
}

}  // namespace puna::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace puna::cpu {

HWY_EXPORT(matmul_float);

void matmul_float(const Activations& x, const RowRange& range) { HWY_DYNAMIC_DISPATCH(matmul_float)(x, range); }

}  // namespace puna::cpu
#endif
