// SPDX-License-Identifier: Apache-2.0
// The inner product of many rows, AVX2: a tile of kTileRows rows of W with one panel of 32 rows of X, 16 of them at a time.
// A vector holds four k of 8 rows of X; four bytes of a row of W are broadcast against two such vectors.
// Byte products are summed in 16 bits as long as the weights' width allows, then widened.
#include <immintrin.h>

HWY_PUSH_ATTRIBUTES(PUNA_INTEGER_TARGET)
namespace puna::HWY_NAMESPACE {
namespace {

inline constexpr int kTileRows = 3;  // 6 sums in 16 bits and 6 in 32: 12 of 16 registers

// How many products of pairs fit 16 bits: 2 × 127 × the largest weight, that many times.
constexpr int products_in_16_bits(Format format) {
  switch (format) {
    case Format::kQ8_0:
      return 1;
    case Format::kQ4_0:
      return 8;
    case Format::kQ6_K:
      return 2;
    default:
      return 4;  // up to 5 bits
  }
}

// Pairs of the products of four weights, broadcast, with x. Q8_0's bytes are w + 128: multiplied as |w| by x with w's sign.
template <Format kFormat>
HWY_INLINE __m256i multiply_bytes(__m256i wq, __m256i x) {
  if constexpr (kFormat == Format::kQ8_0) {
    const __m256i w = _mm256_xor_si256(wq, _mm256_set1_epi8(-128));
    return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
  } else {
    return _mm256_maddubs_epi16(wq, x);
  }
}

// The integer products of group g: dots [kRows][2], 16 rows of X from `lane` on; starts at -offset * sum(x).
template <int kRows, Format kFormat>
HWY_INLINE void multiply_group_of_k(const UnpackedRows& w, const PanelPart& x, std::int64_t k, std::int64_t lane,
                                    __m256i (&dots)[kRows][2], __m256i (&x_sums)[2]) {
  constexpr UnpackedForm kForm = unpacked_form(kFormat);
  constexpr int kRun = products_in_16_bits(kFormat);
  constexpr bool kTakesOffset = !kForm.has_mins && kFormat != Format::kQ8_0;
  for (int v = 0; v < 2; ++v) {
    const std::int32_t* const sums = x.sums + k / 16 * kPanelWidth + lane + 8 * v;
    x_sums[v] = load32(sums);
    if constexpr (kForm.group == 32) x_sums[v] = _mm256_add_epi32(x_sums[v], load32(sums + kPanelWidth));
    const __m256i start = kTakesOffset ? _mm256_mullo_epi32(x_sums[v], _mm256_set1_epi32(-kForm.offset)) : _mm256_setzero_si256();
    for (int r = 0; r < kRows; ++r) dots[r][v] = start;
  }
  for (int first = 0; first < kForm.group / 4; first += kRun) {
    __m256i pairs[kRows][2];
#pragma GCC unroll 8
    for (int step = first; step < first + kRun; ++step) {
      const std::int8_t* const place = x.q + ((k / 4 + step) * kPanelWidth + lane) * 4;
      const __m256i x0 = load32(place), x1 = load32(place + 32);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        std::int32_t four = 0;
        std::memcpy(&four, w.q + r * w.stride + k + 4 * step, 4);
        const __m256i wq = _mm256_set1_epi32(four);
        const __m256i p0 = multiply_bytes<kFormat>(wq, x0), p1 = multiply_bytes<kFormat>(wq, x1);
        pairs[r][0] = step == first ? p0 : _mm256_add_epi16(pairs[r][0], p0);
        pairs[r][1] = step == first ? p1 : _mm256_add_epi16(pairs[r][1], p1);
      }
    }
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < 2; ++v) dots[r][v] = _mm256_add_epi32(dots[r][v], widen_pairs(pairs[r][v]));
    }
  }
}

// c [kRows, W] += or = the tile's products.
template <int kRows, Format kFormat>
void multiply_tile(const UnpackedRows& w, const PanelPart& x, float* c, bool add) {
  constexpr UnpackedForm kForm = unpacked_form(kFormat);
  for (std::int64_t lane = 0; lane < kPanelWidth; lane += 16) {
    __m256 sums[kRows][2];
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < 2; ++v) sums[r][v] = add ? _mm256_loadu_ps(c + r * kPanelWidth + lane + 8 * v) : _mm256_setzero_ps();
    }
    for (std::int64_t g = 0; g < x.width / kForm.group; ++g) {
      const std::int64_t k = g * kForm.group;
      __m256i dots[kRows][2], x_sums[2];
      multiply_group_of_k<kRows, kFormat>(w, x, k, lane, dots, x_sums);
      for (int v = 0; v < 2; ++v) {
        const __m256 x_scale = _mm256_loadu_ps(x.scales + k / 32 * kPanelWidth + lane + 8 * v);
        const __m256 x_sum = _mm256_mul_ps(_mm256_cvtepi32_ps(x_sums[v]), x_scale);
        for (int r = 0; r < kRows; ++r) {
          const std::int64_t at = r * (w.stride / kForm.group) + g;
          const __m256 scale = _mm256_mul_ps(x_scale, _mm256_broadcast_ss(w.scales + at));
          sums[r][v] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[r][v]), scale, sums[r][v]);
          if constexpr (kForm.has_mins) sums[r][v] = _mm256_fnmadd_ps(_mm256_broadcast_ss(w.mins + at), x_sum, sums[r][v]);
        }
      }
    }
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < 2; ++v) _mm256_storeu_ps(c + r * kPanelWidth + lane + 8 * v, sums[r][v]);
    }
  }
}

}  // namespace
}  // namespace puna::HWY_NAMESPACE
HWY_POP_ATTRIBUTES
