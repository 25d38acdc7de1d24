// SPDX-License-Identifier: Apache-2.0
// Products of quantized weights with 8-bit activations, AVX-512 with VNNI.
// Few rows of X: each row of W is dotted straight from its blocks, where the format has such a dot, or from its unpacked bytes.
// From kPanelRows on, rows of W are put into lanes (lanes_avx512_inl.h).
// From kPanelWidth on, kGroupRows rows × kSpan values of W are unpacked into the cache and multiplied with every panel of X.
#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <vector>

#include "kernels/cpu/row_unpack_inl.h"
#include "kernels/cpu/transpose_inl.h"
// the dots and the panels use the unpacked form
#include "kernels/cpu/dots_avx512_inl.h"
#include "kernels/cpu/lanes_avx512_inl.h"
#include "kernels/cpu/panel_avx512_inl.h"

HWY_PUSH_ATTRIBUTES(PUNA_INTEGER_TARGET)
namespace puna::HWY_NAMESPACE {
namespace {

// W in the cache: 48 rows × kSpan bytes = 96 KiB, beside 64 KiB of a panel of X and the sums.
constexpr std::int64_t kGroupRows = 48;
static_assert(kGroupRows % kTileRows == 0 && kSpan % kSuperBlock == 0);

// A thread's room for unpacked weights, made once.
struct UnpackBuffer {
  alignas(64) std::array<std::uint8_t, kGroupRows * kSpan> q;  // [rows, span]
  std::array<float, kGroupRows * kSpan / 16> scales;           // [rows, span / group]
  std::array<float, kGroupRows * kSpan / 32> mins;             // [rows, span / 32]
  std::vector<float> sums;                                     // [panels, rows, W]

  UnpackedRow row(std::int64_t r, int group) {
    return {q.data() + r * kSpan, scales.data() + r * (kSpan / group), mins.data() + r * (kSpan / 32)};
  }
};

inline UnpackBuffer& unpack_buffer() {
  thread_local const std::unique_ptr<UnpackBuffer> buffer = std::make_unique<UnpackBuffer>();
  return *buffer;
}

// The dot of four rows of a format straight from its blocks, where there is one and K fits it.
inline bool dot_rows(Format format, const std::byte* w, std::int64_t stride, const QuantizedRow& x, std::int64_t width, float* y) {
  switch (format) {
    case Format::kQ8_0:
      return width % kQ8_0Step == 0 && (dot4_q8_0(w, stride, x, width, y), true);
    case Format::kQ4_0:
      return width % kQ4_0Step == 0 && (dot4_q4_0(w, stride, x, width, y), true);
    case Format::kQ4_K:
      return dot4_k<BlockQ4_K>(w, stride, x, width, y), true;
    case Format::kQ5_K:
      return dot4_k<BlockQ5_K>(w, stride, x, width, y), true;
    case Format::kQ6_K:
      return dot4_q6_k(w, stride, x, width, y), true;
    default:
      return false;
  }
}

// One row of W against few rows of X, by way of the cache.
void multiply_unpacked_row(const Activations& x, const Product& product, std::int64_t n) {
  const Tensor& w = *product.weight;
  const UnpackedForm form = unpacked_form(w.format);
  const UnpackedRow row = unpack_buffer().row(0, form.group);
  for (std::int64_t t = 0; t < x.rows; ++t) product.y[t * product.stride + n] = 0;
  for (std::int64_t k = 0; k < x.width; k += kSpan) {
    const std::int64_t span = std::min(kSpan, x.width - k);
    unpack(w.format, w.row(n) + format_bytes(w.format, k), span, row);
    const auto dot = form.has_mins ? dot_unpacked<32, true> : form.group == 16 ? dot_unpacked<16, false> : dot_unpacked<32, false>;
    for (std::int64_t t = 0; t < x.rows; ++t)
      product.y[t * product.stride + n] += dot(row, form.offset, quantized_row(x, t, k), span);
  }
}

// Fewer than kPanelRows rows of X.
void multiply_rows(const Activations& x, const RowRange& range) {
  const Product& product = *range.product;
  const Tensor& w = *product.weight;
  std::int64_t n = range.begin;
  std::array<float, kDotRows> y{};
  for (; n + kDotRows <= range.end; n += kDotRows) {
    for (std::int64_t t = 0; t < x.rows; ++t) {
      if (!dot_rows(w.format, w.row(n), w.row_bytes(), quantized_row(x, t, 0), x.width, y.data())) {
        for (std::int64_t r = 0; r < kDotRows; ++r) multiply_unpacked_row(x, product, n + r);
        break;
      }
      std::copy(y.begin(), y.end(), product.y + t * product.stride + n);
    }
  }
  for (; n < range.end; ++n) {
    for (std::int64_t t = 0; t < x.rows; ++t) {
      // The last rows: the same row four times, so that its sum has the same order wherever a thread's range ends.
      if (!dot_rows(w.format, w.row(n), 0, quantized_row(x, t, 0), x.width, y.data())) {
        multiply_unpacked_row(x, product, n);
        break;
      }
      product.y[t * product.stride + n] = y[0];
    }
  }
}

template <Format kFormat>
void multiply_group(const UnpackedRows& w, std::int64_t rows, const PanelPart& x, float* c, bool add) {
  constexpr int kGroup = unpacked_form(kFormat).group;
  const auto at = [&](std::int64_t r) {
    const std::int64_t groups = w.stride / kGroup;
    return UnpackedRows{w.q + r * w.stride, w.scales + r * groups, w.mins + r * groups, w.stride};
  };
  std::int64_t r = 0;
  for (; r + kTileRows <= rows; r += kTileRows) multiply_tile<kTileRows, kFormat>(at(r), x, c + r * kPanelWidth, add);
  for (; r < rows; ++r) multiply_tile<1, kFormat>(at(r), x, c + r * kPanelWidth, add);
}

using MultiplyGroup = void (*)(const UnpackedRows&, std::int64_t, const PanelPart&, float*, bool);
inline MultiplyGroup multiply_group_of(Format format) {
  switch (format) {
    case Format::kQ8_0:
      return multiply_group<Format::kQ8_0>;
    case Format::kQ4_0:
      return multiply_group<Format::kQ4_0>;
    case Format::kQ5_0:
      return multiply_group<Format::kQ5_0>;
    case Format::kQ6_K:
      return multiply_group<Format::kQ6_K>;
    default:
      return multiply_group<Format::kQ4_K>;  // all formats with minima unpack to the same form
  }
}

// sums [panels, rows, W] of rows [n, n + rows) -> y, transposed.
void store_group(const Activations& x, const Product& product, std::int64_t n, std::int64_t rows, const float* sums) {
  for (std::int64_t first = 0; first < x.rows; first += kPanelWidth) {
    transpose(sums + first * kGroupRows, kPanelWidth, rows, std::min(kPanelWidth, x.rows - first),
              product.y + first * product.stride + n, product.stride);
  }
}

void multiply_panels(const Activations& x, const RowRange& range) {
  const Product& product = *range.product;
  const Tensor& w = *product.weight;
  const UnpackedForm form = unpacked_form(w.format);
  const MultiplyGroup multiply = multiply_group_of(w.format);
  const std::int64_t panels = (x.rows + kPanelWidth - 1) / kPanelWidth;
  UnpackBuffer& buffer = unpack_buffer();
  const auto needed = static_cast<std::size_t>(panels * kGroupRows * kPanelWidth);
  if (buffer.sums.size() < needed) buffer.sums.resize(needed);
  for (std::int64_t n = range.begin; n < range.end; n += kGroupRows) {
    const std::int64_t rows = std::min(kGroupRows, range.end - n);
    for (std::int64_t k = 0; k < x.width; k += kSpan) {
      const std::int64_t span = std::min(kSpan, x.width - k);
      for (std::int64_t r = 0; r < rows; ++r) {
        unpack(w.format, w.row(n + r) + format_bytes(w.format, k), span, buffer.row(r, form.group));
      }
      const UnpackedRows unpacked{buffer.q.data(), buffer.scales.data(), buffer.mins.data(), kSpan};
      for (std::int64_t p = 0; p < panels; ++p) {
        const std::int64_t at = (p * x.width + k) * kPanelWidth;  // in q; scales and sums are 32 and 16 times sparser
        const PanelPart part{x.quantized.q + at, x.quantized.scales + at / 32, x.quantized.sums + at / 16, span};
        multiply(unpacked, rows, part, buffer.sums.data() + p * kGroupRows * kPanelWidth, k > 0);
      }
    }
    store_group(x, product, n, rows, buffer.sums.data());
  }
}

void multiply_integers(const Activations& x, const RowRange& range) {
  if (x.rows < kPanelRows) return multiply_rows(x, range);
  if (x.rows < kPanelWidth) return multiply_in_lanes_of(range.product->weight->format)(x, range);
  multiply_panels(x, range);
}

}  // namespace
}  // namespace puna::HWY_NAMESPACE
HWY_POP_ATTRIBUTES
