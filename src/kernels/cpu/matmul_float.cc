// SPDX-License-Identifier: Apache-2.0
// Products in F32: weights in F32, F16, BF16 or F8E4M3, and any other format through its decoder.
// Few rows of X: dots along K. Many rows: kGroupRows rows × kSpan values of W are decoded into the cache and multiplied with every
// panel of X: a vector holds one k of several rows of X, a weight is broadcast.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/matmul_float.cc"
#include "kernels/cpu/targets.h"
// targets.h comes first
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <vector>

#include "kernels/cpu/matmul_targets.h"
#include "kernels/cpu/transpose_inl.h"
#include "tensor/half.h"

HWY_BEFORE_NAMESPACE();
namespace puna::HWY_NAMESPACE {
namespace {

// 16 lanes at most: one panel is two AVX-512 vectors.
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

HWY_INLINE VecF32 load_last(const float* x, std::size_t count) {
  std::array<float, 16> copy{};
  std::copy_n(x, count, copy.begin());
  return hn::LoadU(F32(), copy.data());
}

// w [K] · x [K]: four vectors of sums, added in pairs at the end.
template <Format kFormat>
float dot(const std::byte* HWY_RESTRICT w, const float* HWY_RESTRICT x, std::int64_t width) {
  constexpr std::int64_t kAheadBytes = 1024;
  const F32 f32;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(f32));
  constexpr auto kStored = static_cast<std::int64_t>(sizeof(typename WeightLoader<kFormat>::Stored));
  auto a = hn::Zero(f32), b = a, c = a, d = a;
  std::int64_t k = 0;
  for (; k + 4 * lanes <= width; k += 4 * lanes) {
    for (std::int64_t line = 0; line < 4 * lanes * kStored; line += 64) hwy::Prefetch(w + k * kStored + kAheadBytes + line);
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

template <Format kFormat>
void decode_values(const std::byte* row, std::int64_t first, std::int64_t count, float* values) {
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

// W in the cache: 48 rows × 1024 values = 192 KiB, beside 128 KiB of a panel of X and the sums.
constexpr std::int64_t kGroupRows = 48;
constexpr std::int64_t kSpan = 1024;
// Rows of W in one tile: its sums, two vectors each, stay in registers (32 on AVX-512, NEON and SVE; 16 on AVX2 and SSE4).
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_SSE4
constexpr int kTileRows = 6;
#else
constexpr int kTileRows = 12;
#endif
static_assert(kGroupRows % kTileRows == 0);

struct DecodeBuffer {
  alignas(64) std::array<float, kGroupRows * kSpan> weights;  // [rows, span]
  std::vector<float> sums;                                    // [panels, rows, W]
};

inline DecodeBuffer& decode_buffer() {
  thread_local const std::unique_ptr<DecodeBuffer> buffer = std::make_unique<DecodeBuffer>();
  return *buffer;
}

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
  float* const values = decode_buffer().weights.data();
  for (std::int64_t n = range.begin; n < range.end; ++n) {
    for (std::int64_t t = 0; t < x.rows; ++t) product.y[t * product.stride + n] = 0;
    for (std::int64_t k = 0; k < x.width; k += kSpan) {
      const std::int64_t span = std::min(kSpan, x.width - k);
      decode_span(w, w.row(n), k, span, values);
      for (std::int64_t t = 0; t < x.rows; ++t) {
        product.y[t * product.stride + n] +=
            dot<Format::kF32>(reinterpret_cast<const std::byte*>(values), x.values + t * x.width + k, span);
      }
    }
  }
}

void multiply_rows(const Activations& x, const RowRange& range) {
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

// Products are summed from zero over this many k before they join the sum over all K: rounding grows with the length of a run.
constexpr std::int64_t kRun = 256;

// c [kRows, W] (+)= w [kRows, kSpan] · x [K, W]^T, two vectors of x's rows at a time.
template <int kRows>
void multiply_tile(const float* HWY_RESTRICT w, const float* HWY_RESTRICT x, std::int64_t width, float* HWY_RESTRICT c, bool add) {
  const F32 f32;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(f32));
  for (std::int64_t lane = 0; lane < kPanelWidth; lane += 2 * lanes) {
    for (std::int64_t first = 0; first < width; first += kRun) {
      VecF32 sums[kRows][2];
      for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = hn::Zero(f32);
      const std::int64_t last = std::min(first + kRun, width);
      for (std::int64_t k = first; k < last; ++k) {
        const auto x0 = hn::LoadU(f32, x + k * kPanelWidth + lane), x1 = hn::LoadU(f32, x + k * kPanelWidth + lane + lanes);
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) {
          const auto weight = hn::Set(f32, w[r * kSpan + k]);
          sums[r][0] = hn::MulAdd(weight, x0, sums[r][0]);
          sums[r][1] = hn::MulAdd(weight, x1, sums[r][1]);
        }
      }
      for (int r = 0; r < kRows; ++r) {
        for (int v = 0; v < 2; ++v) {
          float* const place = c + r * kPanelWidth + lane + v * lanes;
          hn::StoreU(add || first > 0 ? hn::Add(hn::LoadU(f32, place), sums[r][v]) : sums[r][v], f32, place);
        }
      }
    }
  }
}

// sums [panels, rows, W] of rows [n, n + rows) -> y, transposed, times the rows' scales.
void store_group(const Activations& x, const Product& product, std::int64_t n, std::int64_t rows, float* sums) {
  const std::int64_t panels = (x.rows + kPanelWidth - 1) / kPanelWidth;
  if (!product.weight->row_scales.empty()) {
    for (std::int64_t p = 0; p < panels; ++p) {
      for (std::int64_t i = 0; i < rows * kPanelWidth; ++i) {
        sums[p * kGroupRows * kPanelWidth + i] *= product.weight->row_scale(n + i / kPanelWidth);
      }
    }
  }
  for (std::int64_t first = 0; first < x.rows; first += kPanelWidth) {
    transpose(sums + first * kGroupRows, kPanelWidth, rows, std::min(kPanelWidth, x.rows - first),
              product.y + first * product.stride + n, product.stride);
  }
}

void multiply_panels(const Activations& x, const RowRange& range) {
  const Product& product = *range.product;
  const Tensor& w = *product.weight;
  const std::int64_t panels = (x.rows + kPanelWidth - 1) / kPanelWidth;
  DecodeBuffer& buffer = decode_buffer();
  const auto needed = static_cast<std::size_t>(panels * kGroupRows * kPanelWidth);
  if (buffer.sums.size() < needed) buffer.sums.resize(needed);
  for (std::int64_t n = range.begin; n < range.end; n += kGroupRows) {
    const std::int64_t rows = std::min(kGroupRows, range.end - n);
    for (std::int64_t k = 0; k < x.width; k += kSpan) {
      const std::int64_t span = std::min(kSpan, x.width - k);
      for (std::int64_t r = 0; r < rows; ++r) decode_span(w, w.row(n + r), k, span, buffer.weights.data() + r * kSpan);
      for (std::int64_t p = 0; p < panels; ++p) {
        const float* const part = x.panels + (p * x.width + k) * kPanelWidth;
        float* const c = buffer.sums.data() + p * kGroupRows * kPanelWidth;
        std::int64_t r = 0;
        for (; r + kTileRows <= rows; r += kTileRows) {
          multiply_tile<kTileRows>(buffer.weights.data() + r * kSpan, part, span, c + r * kPanelWidth, k > 0);
        }
        for (; r < rows; ++r) multiply_tile<1>(buffer.weights.data() + r * kSpan, part, span, c + r * kPanelWidth, k > 0);
      }
    }
    store_group(x, product, n, rows, buffer.sums.data());
  }
}

}  // namespace

void matmul_float(const Activations& x, const RowRange& range) {
  (x.rows >= kPanelRows ? multiply_panels : multiply_rows)(x, range);
}

}  // namespace puna::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace puna::cpu {

HWY_EXPORT(matmul_float);

void matmul_float(const Activations& x, const RowRange& range) { HWY_DYNAMIC_DISPATCH(matmul_float)(x, range); }

}  // namespace puna::cpu
#endif
