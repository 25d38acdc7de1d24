// SPDX-License-Identifier: Apache-2.0
// Products of quantized weights with some rows of X, AVX-512 with VNNI: sixteen rows of W in lanes, two sets of eight. Four values
// of a row of X are broadcast against four of each row of W. A sum has the order, and the bits, of one that panels give. Included
// once per instruction set, so without a guard.
#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "kernels/cpu/lanes_inl.h"

HWY_PUSH_ATTRIBUTES(PUNA_INTEGER_TARGET)
namespace puna::HWY_NAMESPACE {
namespace {

inline constexpr int kMostLaneRows = 8;  // of X at once, and the fewest: 8 integer and 8 F32 sums, 16 of 32 registers
static_assert(kMostLaneRows == kPanelRows);

// A span of sixteen rows of W in lanes.
struct SixteenLanes {
  alignas(64) std::array<std::uint8_t, kSpan * 2 * kLanes> q;  // [span / 4, 16, 4]
  std::array<LaneScales, 2> sets;
};

HWY_INLINE __m512 both(const float* low, const float* high) {
  return _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_load_ps(low)), _mm256_load_ps(high), 1);
}

// What is multiplied next, asked for meanwhile: without, unpacking waits for memory at every block.
template <typename F>
struct Ahead {
  EightRows sets[2];

  HWY_INLINE void ask(std::int64_t group) const {
    const std::int64_t at = group * static_cast<std::int64_t>(sizeof(typename F::Block)) / F::kGroups;
    for (const EightRows& rows : sets) {
#pragma GCC unroll 8
      for (int r = 0; r < kLanes; ++r) _mm_prefetch(reinterpret_cast<const char*>(rows.first + r * rows.stride + at), _MM_HINT_T1);
    }
  }
};

// Sums of kRows rows of X, `width` apart, with a span of W.
template <int kRows, bool kAsks, typename F>
HWY_INLINE void multiply_lanes(const SixteenLanes& w, QuantizedRow x, std::int64_t width, std::int64_t span, const Ahead<F>& ahead,
                               __m512 (&sums)[kRows]) {
  constexpr int kGroup = F::kForm.group;
  const std::uint8_t* wq = w.q.data();
  for (std::int64_t g = 0; g < span / kGroup; ++g, x.q += kGroup) {
    if constexpr (kAsks) ahead.ask(g);
    const std::int64_t block = g * kGroup / 32, half_blocks = g * kGroup / 16;
    std::int32_t x_sums[kRows];
    __m512i dots[kRows];
#pragma GCC unroll 8
    for (int t = 0; t < kRows; ++t) {
      const std::int32_t* const halves = x.sums + t * (width / 16) + half_blocks;
      x_sums[t] = kGroup == 16 ? halves[0] : halves[0] + halves[1];
      dots[t] = F::kTakesOffset ? _mm512_set1_epi32(-F::kForm.offset * x_sums[t]) : _mm512_setzero_si512();
    }
#pragma GCC unroll 8
    for (int step = 0; step < kGroup / 4; ++step, wq += 64) {
      const __m512i sixteen = _mm512_load_si512(wq);
#pragma GCC unroll 8
      for (int t = 0; t < kRows; ++t) {
        std::int32_t four = 0;
        std::memcpy(&four, x.q + t * width + 4 * step, 4);
        dots[t] = _mm512_dpbusd_epi32(dots[t], sixteen, _mm512_set1_epi32(four));
      }
    }
    const __m512 scales = both(&w.sets[0].scales[g * kLanes], &w.sets[1].scales[g * kLanes]);
#pragma GCC unroll 8
    for (int t = 0; t < kRows; ++t) {
      const __m512 x_scale = _mm512_set1_ps(x.scales[t * (width / 32) + block]);
      sums[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[t]), _mm512_mul_ps(x_scale, scales), sums[t]);
      if constexpr (F::kForm.has_mins) {
        const __m512 all = _mm512_mul_ps(_mm512_set1_ps(static_cast<float>(x_sums[t])), x_scale);
        sums[t] = _mm512_fnmadd_ps(both(&w.sets[0].mins[g * kLanes], &w.sets[1].mins[g * kLanes]), all, sums[t]);
      }
    }
  }
}

// A span of W against all rows of X: y = or += their products.
template <typename F>
struct LaneProduct {
  const Activations& x;
  const Lanes (&lanes)[2];
  std::int64_t stride, k, span;  // of y; of W
  const SixteenLanes& w;
  Ahead<F> ahead;

  template <int kRows, bool kAsks>
  void multiply(std::int64_t t) const {
    __m512 sums[kRows];
    const auto place = [&](int set, int r) { return lanes[set].y + (t + r) * stride; };
    for (int r = 0; r < kRows; ++r) {
      const auto half = [&](int set) { return _mm256_maskload_ps(place(set, r), lanes[set].mask); };
      sums[r] = k == 0 ? _mm512_setzero_ps() : _mm512_insertf32x8(_mm512_castps256_ps512(half(0)), half(1), 1);
    }
    multiply_lanes<kRows, kAsks>(w, quantized_row(x, t, k), x.width, span, ahead, sums);
    for (int r = 0; r < kRows; ++r) {
      _mm256_maskstore_ps(place(0, r), lanes[0].mask, _mm512_castps512_ps256(sums[r]));
      _mm256_maskstore_ps(place(1, r), lanes[1].mask, _mm512_extractf32x8_ps(sums[r], 1));
    }
  }
};

// Sixteen rows of W from n on, in two sets.
struct LanePair {
  Lanes sets[2];

  LanePair(const Product& product, std::int64_t n, std::int64_t end)
      : sets{lanes_from(product, n, end), lanes_from(product, std::min(n + rows_at_once(product), end - 1), end)} {
    if (n + rows_at_once(product) >= end) sets[1].mask = _mm256_setzero_si256();
  }
};

template <Format kFormat, typename Block>
void multiply_in_lanes(const Activations& x, const RowRange& range) {
  using F = LaneFormat<kFormat, Block>;
  thread_local const std::unique_ptr<SixteenLanes> room = std::make_unique<SixteenLanes>();
  const Product& product = *range.product;
  const std::int64_t step = 2 * rows_at_once(product);
  LanePair lanes(product, range.begin, range.end), next = lanes;
  for (std::int64_t n = range.begin; n < range.end; n += step, lanes = next) {
    if (n + step < range.end) next = LanePair(product, n + step, range.end);
    for (std::int64_t k = 0; k < x.width; k += kSpan) {
      const std::int64_t span = std::min(kSpan, x.width - k), after = k + span < x.width ? k + span : 0;
      const LanePair& later = after > 0 ? lanes : next;
      const auto rows_ahead = [&](int set) {
        return EightRows{later.sets[set].rows.first + F::bytes(after), later.sets[set].rows.stride};
      };
      for (int set = 0; set < 2; ++set)
        unpack_lanes<F>(lanes.sets[set].rows, k, span, room->q.data() + 4 * kLanes * set, 2 * 4 * kLanes, room->sets[set]);
      const LaneProduct<F> part{x, lanes.sets, product.stride, k, span, *room, {{rows_ahead(0), rows_ahead(1)}}};
      part.template multiply<kMostLaneRows, true>(0);
      std::int64_t t = kMostLaneRows;
      for (; t + kMostLaneRows <= x.rows; t += kMostLaneRows) part.template multiply<kMostLaneRows, false>(t);
      if (x.rows - t >= 4) part.template multiply<4, false>(t), t += 4;
      if (x.rows - t >= 2) part.template multiply<2, false>(t), t += 2;
      if (x.rows - t >= 1) part.template multiply<1, false>(t);
    }
  }
}

using MultiplyInLanes = void (*)(const Activations&, const RowRange&);
inline MultiplyInLanes multiply_in_lanes_of(Format format) {
  switch (format) {
    case Format::kQ8_0:
      return multiply_in_lanes<Format::kQ8_0, BlockQ8_0>;
    case Format::kQ4_0:
      return multiply_in_lanes<Format::kQ4_0, BlockQ4_0>;
    case Format::kQ4_1:
      return multiply_in_lanes<Format::kQ4_1, BlockQ4_1>;
    case Format::kQ5_0:
      return multiply_in_lanes<Format::kQ5_0, BlockQ5_0>;
    case Format::kQ5_1:
      return multiply_in_lanes<Format::kQ5_1, BlockQ5_1>;
    case Format::kQ4_K:
      return multiply_in_lanes<Format::kQ4_K, BlockQ4_K>;
    case Format::kQ5_K:
      return multiply_in_lanes<Format::kQ5_K, BlockQ5_K>;
    default:
      return multiply_in_lanes<Format::kQ6_K, BlockQ6_K>;
  }
}

}  // namespace
}  // namespace puna::HWY_NAMESPACE
HWY_POP_ATTRIBUTES
