// SPDX-License-Identifier: Apache-2.0
// The inner product of many rows, AVX-512 with VNNI: a tile of kTileRows rows of W with one panel of 32 rows of X.
// A vector holds four k of 16 rows of X; four bytes of a row of W are broadcast against two such vectors.
#include <immintrin.h>

HWY_PUSH_ATTRIBUTES(PUNA_INTEGER_TARGET)
namespace puna::HWY_NAMESPACE {
namespace {

// A part of one panel of X, from some k on.
struct PanelPart {
  const std::int8_t* q;      // [K / 4, W, 4]
  const float* scales;       // [K / 32, W]
  const std::int32_t* sums;  // [K / 16, W]
  std::int64_t width;        // K of this part
};

inline constexpr int kTileRows = 6;  // 12 integer and 12 F32 sums: 24 of 32 registers

// The sums of q over one group of X, times -offset (symmetric formats), or zero.
template <int kGroup>
HWY_INLINE __m512i group_sum(const std::int32_t* sums, int half_panel) {
  const __m512i first = _mm512_loadu_si512(sums + 16 * half_panel);
  if constexpr (kGroup == 16) return first;
  return _mm512_add_epi32(first, _mm512_loadu_si512(sums + kPanelWidth + 16 * half_panel));
}

// c [kRows, W] += or = the tile's products.
template <int kRows, Format kFormat>
void multiply_tile(const UnpackedRows& w, const PanelPart& x, float* c, bool add) {
  constexpr UnpackedForm kForm = unpacked_form(kFormat);
  constexpr int kGroup = kForm.group;
  __m512 sums[kRows][2];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < 2; ++v) sums[r][v] = add ? _mm512_loadu_ps(c + r * kPanelWidth + 16 * v) : _mm512_setzero_ps();
  }
  for (std::int64_t g = 0; g < x.width / kGroup; ++g) {
    const std::int64_t k = g * kGroup;
    __m512i dots[kRows][2], x_sums[2];
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      x_sums[v] = group_sum<kGroup>(x.sums + k / 16 * kPanelWidth, v);
      const __m512i start =
          kForm.has_mins ? _mm512_setzero_si512() : _mm512_mullo_epi32(x_sums[v], _mm512_set1_epi32(-kForm.offset));
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) dots[r][v] = start;
    }
#pragma GCC unroll 8
    for (int step = 0; step < kGroup / 4; ++step) {
      const std::int8_t* const place = x.q + (k / 4 + step) * kPanelWidth * 4;
      const __m512i x0 = _mm512_loadu_si512(place), x1 = _mm512_loadu_si512(place + 64);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        std::int32_t four = 0;
        std::memcpy(&four, w.q + r * w.stride + k + 4 * step, 4);
        const __m512i wq = _mm512_set1_epi32(four);
        dots[r][0] = _mm512_dpbusd_epi32(dots[r][0], wq, x0);
        dots[r][1] = _mm512_dpbusd_epi32(dots[r][1], wq, x1);
      }
    }
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      const __m512 x_scale = _mm512_loadu_ps(x.scales + k / 32 * kPanelWidth + 16 * v);
      const __m512 x_sum = _mm512_mul_ps(_mm512_cvtepi32_ps(x_sums[v]), x_scale);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const __m512 scale = _mm512_mul_ps(x_scale, _mm512_set1_ps(w.scales[r * (w.stride / kGroup) + g]));
        sums[r][v] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[r][v]), scale, sums[r][v]);
        if constexpr (kForm.has_mins) {
          sums[r][v] = _mm512_fnmadd_ps(_mm512_set1_ps(w.mins[r * (w.stride / kGroup) + g]), x_sum, sums[r][v]);
        }
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < 2; ++v) _mm512_storeu_ps(c + r * kPanelWidth + 16 * v, sums[r][v]);
  }
}

}  // namespace
}  // namespace puna::HWY_NAMESPACE
HWY_POP_ATTRIBUTES
