// SPDX-License-Identifier: Apache-2.0
// Products of quantized weights with 8-bit activations, AVX2: eight rows of W at a time, a lane of a vector for each.
//   few rows of X    the products of a block are added up across to one vector, straight from the rows
//   many             a span of W is put into lanes, in the first cache; four values of a row of X are broadcast against four of
//                    each row of W, kTileRows rows of X at a time
// Both add the exact integers of a block to a lane's F32 sum, block after block, so a sum has the same order and the same bits
// whatever rows stand beside it, of X or of W.
// The byte product is unsigned × signed into saturating 16-bit pairs (vpmaddubsw): pairs are summed in 16 bits as long as the
// weights' width allows, then widened. Q8_0 multiplies |w| by x with w's sign.
#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>

#include "kernels/cpu/block_values_inl.h"
#include "kernels/cpu/matmul_targets.h"
// the lanes use the values of blocks
#include "kernels/cpu/lanes_inl.h"

HWY_PUSH_ATTRIBUTES(PUNA_INTEGER_TARGET)
namespace puna::HWY_NAMESPACE {
namespace {

inline constexpr std::int64_t kFewRows = 4;
inline constexpr std::int64_t kCachedRows = 128;  // of X, in the second cache while W passes
inline constexpr std::int64_t kTileRows = 4;      // 4 sums in F32, 4 in 32 and 4 in 16 bits: 12 of 16 registers

// The bytes of a format, and how many products of pairs fit 16 bits: 2 × 127 × the largest weight, that many times.
template <Format kFormat, typename B, int kProductsIn16Bits>
struct PairFormat : LaneFormat<kFormat, B> {
  static constexpr int kRun = kProductsIn16Bits;
  static constexpr bool kSigned = kFormat == Format::kQ8_0;  // multiplied as it lies in the block
  static constexpr bool kTakesOffset = LaneFormat<kFormat, B>::kTakesOffset && !kSigned;

  static HWY_INLINE __m256i part(const B& block, int part) {
    if constexpr (kSigned) return load32(block.q);
    return values(block, part);
  }
};

// A span of eight rows in lanes.
struct LaneSpan : LaneScales {
  alignas(32) std::array<std::uint8_t, kSpan * kLanes> q;  // [span / 4, 8, 4]
};

HWY_INLINE void ask_for(const std::byte* place, std::int64_t bytes) {
  for (std::int64_t line = 0; line < bytes; line += 64) _mm_prefetch(reinterpret_cast<const char*>(place + line), _MM_HINT_T0);
}

HWY_INLINE __m256i widen_pairs(__m256i pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }

// The sum is made here and stays in a register: compilers would add all of a group's products as a tree, for which there are not
// registers enough.
template <typename Vector>
HWY_INLINE Vector settled(Vector sum) {
  asm("" : "+x"(sum));
  return sum;
}

template <typename F>
HWY_INLINE __m256i multiply_bytes(__m256i w, __m256i x) {
  if constexpr (F::kSigned) return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
  return _mm256_maddubs_epi16(w, x);
}

// Adds the dots of group g with one row of X, scaled, to a lane's sums.
template <typename F>
HWY_INLINE void add_group(__m256& sum, __m256i dots, const float* scales, const float* mins, const QuantizedRow& x) {
  const __m256 x_scale = _mm256_broadcast_ss(x.scales);
  if constexpr (F::kTakesOffset) {
    constexpr int kShift = std::countr_zero(static_cast<unsigned>(F::kForm.offset));
    static_assert(F::kForm.offset == 1 << kShift);
    __m256i x_sum = _mm256_set1_epi32(x.sums[0]);
    if constexpr (F::kForm.group == 32) x_sum = _mm256_add_epi32(x_sum, _mm256_set1_epi32(x.sums[1]));
    dots = _mm256_sub_epi32(dots, _mm256_slli_epi32(x_sum, kShift));
  }
  sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots), _mm256_mul_ps(_mm256_load_ps(scales), x_scale), sum);
  if constexpr (F::kForm.has_mins) {
    const __m256 x_sum = _mm256_set1_ps(static_cast<float>(x.sums[0] + x.sums[1]));
    sum = _mm256_fnmadd_ps(_mm256_load_ps(mins), _mm256_mul_ps(x_sum, x_scale), sum);
  }
}

// Row r's word w in lane r of the sum: of the lower four words, and of the upper ones.
struct SumsAcross {
  __m256i low, high;
};

// Eight rows' vectors of products. The first additions are done in the pairs' 16 bits where kRun products fit them.
template <int kRun>
HWY_INLINE SumsAcross sum_across(const __m256i (&pairs)[kLanes]) {
  __m256i twos[4], fours[2];
  for (int i = 0; i < 4; ++i) {
    __m256i even = pairs[2 * i], odd = pairs[2 * i + 1];
    if constexpr (kRun < 2) even = widen_pairs(even), odd = widen_pairs(odd);
    const __m256i low = _mm256_unpacklo_epi32(even, odd), high = _mm256_unpackhi_epi32(even, odd);
    twos[i] = kRun < 2 ? _mm256_add_epi32(low, high) : _mm256_add_epi16(low, high);
    if constexpr (kRun == 2) twos[i] = widen_pairs(twos[i]);
  }
  for (int i = 0; i < 2; ++i) {
    const __m256i low = _mm256_unpacklo_epi64(twos[2 * i], twos[2 * i + 1]),
                  high = _mm256_unpackhi_epi64(twos[2 * i], twos[2 * i + 1]);
    fours[i] = kRun < 4 ? _mm256_add_epi32(low, high) : widen_pairs(_mm256_add_epi16(low, high));
  }
  return {_mm256_permute2x128_si256(fours[0], fours[1], 0x20), _mm256_permute2x128_si256(fours[0], fours[1], 0x31)};
}

// kRows rows of X; 0: as many as there are, at most kFewRows, for more are faster with W in lanes.
template <typename F, int kRows>
void multiply_few_rows(const Activations& x, const RowRange& range) {
  using Block = typename F::Block;
  constexpr int kGroup = F::kForm.group;
  constexpr std::int64_t kAhead = kLanes * sizeof(Block) / F::kParts;  // bytes of the next eight rows for each part
  alignas(32) std::array<float, F::kGroups * kLanes> scales;
  alignas(32) std::array<float, F::kParts * kLanes> mins;
  alignas(32) std::array<float, kFewRows * kLanes> sums;  // [T, 8]
  const Product& product = *range.product;
  const std::int64_t count = kRows > 0 ? kRows : x.rows;
  for (std::int64_t n = range.begin; n < range.end; n += rows_at_once(product)) {
    const Lanes lanes = lanes_from(product, n, range.end);
    const std::byte* ahead = lanes.rows.first + kLanes * lanes.rows.stride;
    QuantizedRow row = quantized_row(x, 0, 0);
    std::fill_n(sums.begin(), count * kLanes, 0.0f);
    for (std::int64_t b = 0; b < x.width / F::kValues; ++b) {
      lane_scales<Block>(lanes.rows, b, scales.data(), mins.data());
#pragma GCC unroll 8
      for (int part = 0; part < F::kParts; ++part, ahead += kAhead) {
        ask_for(ahead, kAhead);
        __m256i w[kLanes];
#pragma GCC unroll 8
        for (int r = 0; r < kLanes; ++r) w[r] = F::part(lanes.rows.block<Block>(r, b), part);
        for (std::int64_t t = 0; t < count; ++t) {
          const __m256i xq = load32(row.q + t * x.width);
          __m256i pairs[kLanes];
#pragma GCC unroll 8
          for (int r = 0; r < kLanes; ++r) pairs[r] = multiply_bytes<F>(w[r], xq);
          const SumsAcross dots = sum_across<F::kRun>(pairs);
          __m256 sum = _mm256_load_ps(&sums[t * kLanes]);
          const QuantizedRow at{nullptr, row.scales + t * (x.width / 32), row.sums + t * (x.width / 16)};
          const float* const scale = &scales[32 / kGroup * part * kLanes];
          if constexpr (kGroup == 16) {
            add_group<F>(sum, dots.low, scale, nullptr, at);
            add_group<F>(sum, dots.high, scale + kLanes, nullptr, {nullptr, at.scales, at.sums + 1});
          } else {
            add_group<F>(sum, _mm256_add_epi32(dots.low, dots.high), scale, &mins[part * kLanes], at);
          }
          _mm256_store_ps(&sums[t * kLanes], sum);
        }
        row = {row.q + 32, row.scales + 1, row.sums + 2};
      }
    }
    for (std::int64_t t = 0; t < count; ++t)
      _mm256_maskstore_ps(lanes.y + t * product.stride, lanes.mask, _mm256_load_ps(&sums[t * kLanes]));
  }
}

// What is multiplied next is asked for meanwhile, an even share with each group of the span: `bytes` of each of eight rows.
struct Ahead {
  EightRows rows;
  std::int64_t bytes;

  HWY_INLINE void ask(std::int64_t group, std::int64_t groups) const {
    const std::int64_t from = kLanes * bytes * group / groups, to = kLanes * bytes * (group + 1) / groups;
    ask_for(rows.first + from / bytes * rows.stride + from % bytes, to - from);
  }
};

// Sums of kRows rows of X, `width` apart, with a span of W.
template <int kRows, typename F, bool kAsks>
void multiply_tile(const LaneSpan& w, QuantizedRow x, std::int64_t width, std::int64_t span, const Ahead& ahead,
                   __m256 (&sums)[kRows]) {
  constexpr int kGroup = F::kForm.group, kRun = std::min(F::kRun, kGroup / 4);
  const std::int64_t groups = span / kGroup;
  const std::uint8_t* wq = w.q.data();
  for (std::int64_t g = 0; g < groups; ++g, x.q += kGroup) {
    if constexpr (kAsks) ahead.ask(g, groups);
    __m256i dots[kRows];
#pragma GCC unroll 8
    for (int first = 0; first < kGroup / 4; first += kRun) {
      __m256i pairs[kRows];
#pragma GCC unroll 8
      for (int step = first; step < first + kRun; ++step, wq += 4 * kLanes) {
        const __m256i eight = load32(wq);
#pragma GCC unroll 4
        for (int t = 0; t < kRows; ++t) {
          std::int32_t four = 0;
          std::memcpy(&four, x.q + t * width + 4 * step, 4);
          const __m256i product = multiply_bytes<F>(eight, _mm256_set1_epi32(four));
          pairs[t] = step == first ? product : settled(_mm256_add_epi16(pairs[t], product));
        }
      }
#pragma GCC unroll 4
      for (int t = 0; t < kRows; ++t) {
        const __m256i wide = widen_pairs(pairs[t]);
        dots[t] = first == 0 ? wide : settled(_mm256_add_epi32(dots[t], wide));
      }
    }
    const std::int64_t block = g * kGroup / 32, half_blocks = g * kGroup / 16;
#pragma GCC unroll 4
    for (int t = 0; t < kRows; ++t) {
      const QuantizedRow row{nullptr, x.scales + t * (width / 32) + block, x.sums + t * (width / 16) + half_blocks};
      const float* const mins = F::kForm.has_mins ? &w.mins[g * kLanes] : nullptr;
      add_group<F>(sums[t], dots[t], &w.scales[g * kLanes], mins, row);
    }
  }
}

// A span of W against all rows of X: y = or += their products.
template <typename F>
struct SpanProduct {
  const Activations& x;
  const Lanes& lanes;
  std::int64_t stride, k, span;  // of y; of W
  const LaneSpan& w;
  Ahead ahead;

  template <int kRows, bool kAsks>
  void multiply(std::int64_t t) const {
    __m256 sums[kRows];
    float* const y = lanes.y + t * stride;
    for (int r = 0; r < kRows; ++r) sums[r] = k == 0 ? _mm256_setzero_ps() : _mm256_maskload_ps(y + r * stride, lanes.mask);
    multiply_tile<kRows, F, kAsks>(w, quantized_row(x, t, k), x.width, span, ahead, sums);
    for (int r = 0; r < kRows; ++r) _mm256_maskstore_ps(y + r * stride, lanes.mask, sums[r]);
  }
};

// Rows [first, last) of X.
template <typename F>
void multiply_rows(const Activations& x, std::int64_t first, std::int64_t last, const RowRange& range) {
  thread_local const std::unique_ptr<LaneSpan> room = std::make_unique<LaneSpan>();
  const Product& product = *range.product;
  const std::int64_t step = rows_at_once(product);
  Lanes lanes = lanes_from(product, range.begin, range.end), next = lanes;
  for (std::int64_t n = range.begin; n < range.end; n += step, lanes = next) {
    if (n + step < range.end) next = lanes_from(product, n + step, range.end);
    for (std::int64_t k = 0; k < x.width; k += kSpan) {
      const std::int64_t span = std::min(kSpan, x.width - k), after = k + span < x.width ? k + span : 0;
      const EightRows& rows = after > 0 ? lanes.rows : next.rows;
      const Ahead ahead{{rows.first + F::bytes(after), rows.stride}, F::bytes(std::min(kSpan, x.width - after))};
      unpack_lanes<F>(lanes.rows, k, span, room->q.data(), 4 * kLanes, *room);
      const SpanProduct<F> part{x, lanes, product.stride, k, span, *room, ahead};
      std::int64_t t = first;
      if (last - t >= kTileRows) part.template multiply<kTileRows, true>(t), t += kTileRows;
      for (; t + kTileRows <= last; t += kTileRows) part.template multiply<kTileRows, false>(t);
      if (last - t == 3) part.template multiply<3, false>(t);
      if (last - t == 2) part.template multiply<2, false>(t);
      if (last - t == 1) part.template multiply<1, false>(t);
    }
  }
}

template <Format kFormat, typename Block, int kRun>
void multiply_format(const Activations& x, const RowRange& range) {
  using F = PairFormat<kFormat, Block, kRun>;
  constexpr bool kUnpacksSimply = F::kRun == 8 || F::kSigned;  // the others need the registers: a loop is faster for one row too
  if constexpr (kUnpacksSimply) {
    if (x.rows == 1) return multiply_few_rows<F, 1>(x, range);
  }
  if (x.rows <= kFewRows) return multiply_few_rows<F, 0>(x, range);
  for (std::int64_t first = 0; first < x.rows; first += kCachedRows)
    multiply_rows<F>(x, first, std::min(first + kCachedRows, x.rows), range);
}

void multiply_integers(const Activations& x, const RowRange& range) {
  switch (range.product->weight->format) {
    case Format::kQ8_0:
      return multiply_format<Format::kQ8_0, BlockQ8_0, 1>(x, range);
    case Format::kQ4_0:
      return multiply_format<Format::kQ4_0, BlockQ4_0, 8>(x, range);
    case Format::kQ4_1:
      return multiply_format<Format::kQ4_1, BlockQ4_1, 8>(x, range);
    case Format::kQ5_0:
      return multiply_format<Format::kQ5_0, BlockQ5_0, 4>(x, range);
    case Format::kQ5_1:
      return multiply_format<Format::kQ5_1, BlockQ5_1, 4>(x, range);
    case Format::kQ4_K:
      return multiply_format<Format::kQ4_K, BlockQ4_K, 8>(x, range);
    case Format::kQ5_K:
      return multiply_format<Format::kQ5_K, BlockQ5_K, 4>(x, range);
    case Format::kQ6_K:
      return multiply_format<Format::kQ6_K, BlockQ6_K, 2>(x, range);
    default:
      return;  // the front sends no other
  }
}

}  // namespace
}  // namespace puna::HWY_NAMESPACE
HWY_POP_ATTRIBUTES
