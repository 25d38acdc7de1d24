// SPDX-License-Identifier: Apache-2.0
// Dots of four rows of quantized weights with one row of 8-bit activations, AVX2, straight from the blocks of the file.
// The byte product is unsigned × signed into saturating 16-bit pairs (vpmaddubsw): weights of up to 6 bits never saturate, and an
// offset is taken off by the same product of a constant, which the four rows share. Q8_0 multiplies |w| by x with w's sign.
#include <immintrin.h>

#include <array>
#include <cstdint>
#include <type_traits>

HWY_PUSH_ATTRIBUTES(PUNA_INTEGER_TARGET)
namespace puna::HWY_NAMESPACE {
namespace {

// What K must be a multiple of for the dots of these formats.
inline constexpr std::int64_t kQ8_0Step = 32, kQ4_0Step = 32;

HWY_INLINE __m256i widen_pairs(__m256i pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }

HWY_INLINE void accumulate(__m256& sum, __m256i pairs, __m256 scales) {
  sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(widen_pairs(pairs)), scales, sum);
}

HWY_INLINE float sum_of_lanes(__m256 v) {
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}

// Four rows of W, `stride` bytes apart -> y [4].
HWY_INLINE void dot4_q8_0(const std::byte* w, std::int64_t stride, const QuantizedRow& x, std::int64_t width, float* y) {
  __m256 sums[kDotRows];
  for (auto& sum : sums) sum = _mm256_setzero_ps();
  for (std::int64_t b = 0; b < width / 32; ++b) {
    const __m256i xq = load32(x.q + 32 * b);
#pragma GCC unroll 4
    for (int r = 0; r < kDotRows; ++r) {
      const auto& block = reinterpret_cast<const BlockQ8_0*>(w + r * stride)[b];
      prefetch_next(w, stride, b * 34, r, 34);
      const __m256i wq = load32(block.q);
      const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(wq), _mm256_sign_epi8(xq, wq));
      accumulate(sums[r], pairs, _mm256_set1_ps(half(block.d) * x.scales[b]));
    }
  }
  for (int r = 0; r < kDotRows; ++r) y[r] = sum_of_lanes(sums[r]);
}

HWY_INLINE void dot4_q4_0(const std::byte* w, std::int64_t stride, const QuantizedRow& x, std::int64_t width, float* y) {
  __m256 sums[kDotRows];
  for (auto& sum : sums) sum = _mm256_setzero_ps();
  for (std::int64_t b = 0; b < width / 32; ++b) {
    const __m256i xq = load32(x.q + 32 * b), offset = _mm256_maddubs_epi16(_mm256_set1_epi8(8), xq);
#pragma GCC unroll 4
    for (int r = 0; r < kDotRows; ++r) {
      const auto& block = reinterpret_cast<const BlockQ4_0*>(w + r * stride)[b];
      prefetch_next(w, stride, b * 18, r, 18);
      const __m256i pairs = _mm256_sub_epi16(_mm256_maddubs_epi16(unpack_nibbles(block.q), xq), offset);
      accumulate(sums[r], pairs, _mm256_set1_ps(half(block.d) * x.scales[b]));
    }
  }
  for (int r = 0; r < kDotRows; ++r) y[r] = sum_of_lanes(sums[r]);
}

HWY_INLINE __m256 bytes_to_floats(std::uint64_t bytes) {
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<long long>(bytes))));
}

// The sums of each block of 32 of a super-block of x times the block's scale: [8].
HWY_INLINE __m256 block_sums(const QuantizedRow& x, std::int64_t super) {
  const __m256i low = load32(x.sums + 16 * super), high = load32(x.sums + 16 * super + 8);
  const __m256i pairs = _mm256_permute4x64_epi64(_mm256_hadd_epi32(low, high), 0b11'01'10'00);
  return _mm256_mul_ps(_mm256_cvtepi32_ps(pairs), _mm256_loadu_ps(x.scales + 8 * super));
}

// Q4_K and Q5_K.
template <typename Block>
HWY_INLINE void dot4_k(const std::byte* w, std::int64_t stride, const QuantizedRow& x, std::int64_t width, float* y) {
  __m256 sums[kDotRows], mins[kDotRows];
  for (int r = 0; r < kDotRows; ++r) sums[r] = mins[r] = _mm256_setzero_ps();
  for (std::int64_t s = 0; s < width / kSuperBlock; ++s) {
    const __m256 x_sums = block_sums(x, s), x_scales = _mm256_loadu_ps(x.scales + 8 * s);
    for (int r = 0; r < kDotRows; ++r) {
      const auto& block = reinterpret_cast<const Block*>(w + r * stride)[s];
      prefetch_next(w, stride, s * static_cast<std::int64_t>(sizeof(Block)), r, sizeof(Block));
      const SubScales packed = sub_scales(block.scales);
      alignas(32) std::array<float, 8> scales;
      const __m256 d = _mm256_set1_ps(half(block.d));
      _mm256_store_ps(scales.data(), _mm256_mul_ps(_mm256_mul_ps(bytes_to_floats(packed.scales), d), x_scales));
      const __m256 minima = _mm256_mul_ps(bytes_to_floats(packed.mins), _mm256_set1_ps(half(block.dmin)));
      mins[r] = _mm256_fmadd_ps(minima, x_sums, mins[r]);
#pragma GCC unroll 4
      for (int pair = 0; pair < 4; ++pair) {
        const __m256i q = load32(block.q + 32 * pair);
        __m256i low = low_nibbles(q), high = high_nibbles(q);
        if constexpr (std::is_same_v<Block, BlockQ5_K>) {
          low = _mm256_or_si256(low, bits_to_bit_4(load32(block.high), 2 * pair, 1));
          high = _mm256_or_si256(high, bits_to_bit_4(load32(block.high), 2 * pair + 1, 1));
        }
        const std::int8_t* const xq = x.q + kSuperBlock * s + 64 * pair;
        accumulate(sums[r], _mm256_maddubs_epi16(low, load32(xq)), _mm256_broadcast_ss(&scales[2 * pair]));
        accumulate(sums[r], _mm256_maddubs_epi16(high, load32(xq + 32)), _mm256_broadcast_ss(&scales[2 * pair + 1]));
      }
    }
  }
  for (int r = 0; r < kDotRows; ++r) y[r] = sum_of_lanes(_mm256_sub_ps(sums[r], mins[r]));
}

// A vector holds two groups of 16 values, a group's scale stands in four lanes.
HWY_INLINE void dot4_q6_k(const std::byte* w, std::int64_t stride, const QuantizedRow& x, std::int64_t width, float* y) {
  __m256 sums[kDotRows];
  for (auto& sum : sums) sum = _mm256_setzero_ps();
  for (std::int64_t s = 0; s < width / kSuperBlock; ++s) {
    __m256i offsets[8];
    for (int b = 0; b < 8; ++b) offsets[b] = _mm256_maddubs_epi16(_mm256_set1_epi8(32), load32(x.q + kSuperBlock * s + 32 * b));
    for (int r = 0; r < kDotRows; ++r) {
      const auto& block = reinterpret_cast<const BlockQ6_K*>(w + r * stride)[s];
      prefetch_next(w, stride, s * 210, r, 210);
      const float d = half(block.d);
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) {
        const __m256i first = load32(block.low + 64 * h), second = load32(block.low + 64 * h + 32);
        const __m256i high = load32(block.high + 32 * h);
        const __m256i q[4] = {_mm256_or_si256(low_nibbles(first), bits_to_bit_4(high, 0, 3)),
                              _mm256_or_si256(low_nibbles(second), bits_to_bit_4(high, 2, 3)),
                              _mm256_or_si256(high_nibbles(first), bits_to_bit_4(high, 4, 3)),
                              _mm256_or_si256(high_nibbles(second), bits_to_bit_4(high, 6, 3))};
#pragma GCC unroll 4
        for (int part = 0; part < 4; ++part) {
          const int b = 4 * h + part;
          const float scale = d * x.scales[8 * s + b];
          const __m256 scales = _mm256_set_m128(_mm_set1_ps(scale * static_cast<float>(block.scales[2 * b + 1])),
                                                _mm_set1_ps(scale * static_cast<float>(block.scales[2 * b])));
          const __m256i pairs = _mm256_maddubs_epi16(q[part], load32(x.q + kSuperBlock * s + 32 * b));
          accumulate(sums[r], _mm256_sub_epi16(pairs, offsets[b]), scales);
        }
      }
    }
  }
  for (int r = 0; r < kDotRows; ++r) y[r] = sum_of_lanes(sums[r]);
}

// One unpacked row against one row of X: Q4_1, Q5_0 and Q5_1, whose groups are of 32 and whose values have at most 5 bits.
template <int kGroup, bool kMins>
float dot_unpacked(const UnpackedRow& w, int offset, const QuantizedRow& x, std::int64_t width) {
  static_assert(kGroup == 32 || !kMins);
  __m256 sum = _mm256_setzero_ps();
  float minima = 0;
  for (std::int64_t b = 0; b < width / 32; ++b) {
    const __m256i xq = load32(x.q + 32 * b);
    const __m256i taken = _mm256_maddubs_epi16(_mm256_set1_epi8(static_cast<char>(offset)), xq);
    const __m256i pairs = _mm256_sub_epi16(_mm256_maddubs_epi16(load32(w.q + 32 * b), xq), taken);
    accumulate(sum, pairs, _mm256_set1_ps(w.scales[b] * x.scales[b]));
    if constexpr (kMins) minima += w.mins[b] * (x.scales[b] * static_cast<float>(x.sums[2 * b] + x.sums[2 * b + 1]));
  }
  return sum_of_lanes(sum) - minima;
}

}  // namespace
}  // namespace puna::HWY_NAMESPACE
HWY_POP_ATTRIBUTES
