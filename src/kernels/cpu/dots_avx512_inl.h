// SPDX-License-Identifier: Apache-2.0
// Dots of four rows of quantized weights with one row of 8-bit activations, AVX-512 with VNNI, straight from the blocks of the
// file. Four rows share the loads of x and give the memory four streams. Integer products of a block are exact; each is converted
// and added to an F32 lane times its scale: acc += float(sum q_w q_x) (d_w d_x). Lanes are summed at the end. A symmetric format's
// offset is taken off as an integer: the sum starts at -offset * sum(q_x), which all four rows share.
#include <immintrin.h>

HWY_PUSH_ATTRIBUTES(PUNA_INTEGER_TARGET)
namespace puna::HWY_NAMESPACE {
namespace {

inline constexpr int kDotRows = 4;

// One row of X as dots read it: q [K], scales [K / 32], sums [K / 16].
struct QuantizedRow {
  const std::int8_t* q;
  const float* scales;
  const std::int32_t* sums;
};

// How far ahead of the loads memory is asked for; each core alone then keeps the memory busy.
inline constexpr std::int64_t kPrefetchBytes = 1024;

HWY_INLINE void prefetch_ahead(const void* place) { _mm_prefetch(static_cast<const char*>(place) + kPrefetchBytes, _MM_HINT_T0); }

// -value * sum of each group of four bytes of x.
HWY_INLINE __m512i negative_offset(char value, __m512i x) {
  return _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(value), x));
}

HWY_INLINE void accumulate(__m512& sum, __m512i dots, __m512 scales) {
  sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots), scales, sum);
}

// Four rows of W, `stride` bytes apart -> y [4]. K is a multiple of 64.
HWY_INLINE void dot4_q8_0(const std::byte* w, std::int64_t stride, const QuantizedRow& x, std::int64_t width, float* y) {
  const __m512i spread = _mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0);
  __m512 sums[kDotRows];
  for (auto& sum : sums) sum = _mm512_setzero_ps();
  for (std::int64_t b = 0; b < width / 32; b += 2) {
    const __m512i xq = _mm512_loadu_si512(x.q + 32 * b);
    const __m512i start = negative_offset(static_cast<char>(128), xq);
    const __m128 xd = _mm_castpd_ps(_mm_load_sd(reinterpret_cast<const double*>(x.scales + b)));
#pragma GCC unroll 4
    for (int r = 0; r < kDotRows; ++r) {
      const auto* block = reinterpret_cast<const BlockQ8_0*>(w + r * stride) + b;
      prefetch_ahead(block);
      const __m256i low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(block[0].q));
      const __m256i high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(block[1].q));
      const __m512i wq = _mm512_xor_si512(_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1), _mm512_set1_epi8(-128));
      const __m128 wd = _mm_cvtph_ps(_mm_cvtsi32_si128(block[0].d | block[1].d << 16));
      const __m512 scales = _mm512_permutexvar_ps(spread, _mm512_castps128_ps512(_mm_mul_ps(wd, xd)));
      accumulate(sums[r], _mm512_dpbusd_epi32(start, wq, xq), scales);
    }
  }
  for (int r = 0; r < kDotRows; ++r) y[r] = _mm512_reduce_add_ps(sums[r]);
}

// K is a multiple of 128: four blocks at a time, low nibbles (values 0..15 of each) in one vector, high nibbles in another.
HWY_INLINE void dot4_q4_0(const std::byte* w, std::int64_t stride, const QuantizedRow& x, std::int64_t width, float* y) {
  const __m512i spread = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
  const __m512i nibble = _mm512_set1_epi8(15);
  __m512 sums[kDotRows];
  for (auto& sum : sums) sum = _mm512_setzero_ps();
  for (std::int64_t b = 0; b < width / 32; b += 4) {
    const __m512i x01 = _mm512_loadu_si512(x.q + 32 * b), x23 = _mm512_loadu_si512(x.q + 32 * b + 64);
    const __m512i x_low = _mm512_shuffle_i64x2(x01, x23, 0b10'00'10'00), x_high = _mm512_shuffle_i64x2(x01, x23, 0b11'01'11'01);
    const __m512i start = _mm512_add_epi32(negative_offset(8, x_low), negative_offset(8, x_high));
    const __m128 xd = _mm_loadu_ps(x.scales + b);
#pragma GCC unroll 4
    for (int r = 0; r < kDotRows; ++r) {
      const auto* block = reinterpret_cast<const BlockQ4_0*>(w + r * stride) + b;
      prefetch_ahead(block);
      const auto load = [&](int i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(block[i].q)); };
      const __m256i q01 = _mm256_inserti128_si256(_mm256_castsi128_si256(load(0)), load(1), 1);
      const __m256i q23 = _mm256_inserti128_si256(_mm256_castsi128_si256(load(2)), load(3), 1);
      const __m512i q = _mm512_inserti64x4(_mm512_castsi256_si512(q01), q23, 1);
      const __m512i low = _mm512_and_si512(q, nibble), high = _mm512_and_si512(_mm512_srli_epi16(q, 4), nibble);
      const std::uint64_t d =
          block[0].d | std::uint64_t{block[1].d} << 16 | std::uint64_t{block[2].d} << 32 | std::uint64_t{block[3].d} << 48;
      const __m128 wd = _mm_cvtph_ps(_mm_cvtsi64_si128(static_cast<long long>(d)));
      const __m512 scales = _mm512_permutexvar_ps(spread, _mm512_castps128_ps512(_mm_mul_ps(wd, xd)));
      accumulate(sums[r], _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(start, low, x_low), high, x_high), scales);
    }
  }
  for (int r = 0; r < kDotRows; ++r) y[r] = _mm512_reduce_add_ps(sums[r]);
}

// float(sum of each 32 q_x) * scale, of one super-block: [8].
HWY_INLINE __m256 block_sums(const QuantizedRow& x, std::int64_t super) {
  const __m512i halves = _mm512_loadu_si512(x.sums + 16 * super);
  const __m512i pairs = _mm512_add_epi32(halves, _mm512_srli_epi64(halves, 32));
  return _mm256_mul_ps(_mm256_cvtepi32_ps(_mm512_cvtepi64_epi32(pairs)), _mm256_loadu_ps(x.scales + 8 * super));
}

HWY_INLINE __m256 bytes_to_floats(std::uint64_t bytes) {
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<long long>(bytes))));
}

// Lanes for sub-blocks 4h and 4h + 2 (low nibbles), 4h + 1 and 4h + 3 (high nibbles) of eight scales.
HWY_INLINE __m512 sub_block_scales(__m256 scales, int first) {
  const __m512i index = _mm512_inserti64x4(_mm512_set1_epi32(first), _mm256_set1_epi32(first + 2), 1);
  return _mm512_permutexvar_ps(index, _mm512_castps256_ps512(scales));
}

// K is a multiple of 256.
HWY_INLINE void dot4_q4_k(const std::byte* w, std::int64_t stride, const QuantizedRow& x, std::int64_t width, float* y) {
  const __m512i nibble = _mm512_set1_epi8(15);
  __m512 sums[kDotRows];
  __m256 mins[kDotRows];
  for (int r = 0; r < kDotRows; ++r) sums[r] = _mm512_setzero_ps(), mins[r] = _mm256_setzero_ps();
  for (std::int64_t s = 0; s < width / kSuperBlock; ++s) {
    const __m256 x_sums = block_sums(x, s), xd = _mm256_loadu_ps(x.scales + 8 * s);
    __m512i x_low[2], x_high[2];
    for (int h = 0; h < 2; ++h) {
      const __m512i x01 = _mm512_loadu_si512(x.q + kSuperBlock * s + 128 * h);
      const __m512i x23 = _mm512_loadu_si512(x.q + kSuperBlock * s + 128 * h + 64);
      x_low[h] = _mm512_shuffle_i64x2(x01, x23, 0b01'00'01'00);
      x_high[h] = _mm512_shuffle_i64x2(x01, x23, 0b11'10'11'10);
    }
#pragma GCC unroll 4
    for (int r = 0; r < kDotRows; ++r) {
      const auto& block = reinterpret_cast<const BlockQ4_K*>(w + r * stride)[s];
      prefetch_ahead(&block);
      prefetch_ahead(block.q + 48);
      const SubScales packed = sub_scales(block.scales);
      const __m128 halves = _mm_cvtph_ps(_mm_cvtsi32_si128(block.d | block.dmin << 16));
      const __m256 d = _mm256_broadcastss_ps(halves), dmin = _mm256_broadcastss_ps(_mm_movehdup_ps(halves));
      const __m256 scales = _mm256_mul_ps(_mm256_mul_ps(bytes_to_floats(packed.scales), xd), d);
      mins[r] = _mm256_fmadd_ps(_mm256_mul_ps(bytes_to_floats(packed.mins), dmin), x_sums, mins[r]);
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) {
        const __m512i q = _mm512_loadu_si512(block.q + 64 * h);
        const __m512i low = _mm512_and_si512(q, nibble), high = _mm512_and_si512(_mm512_srli_epi16(q, 4), nibble);
        const __m512i zero = _mm512_setzero_si512();
        accumulate(sums[r], _mm512_dpbusd_epi32(zero, low, x_low[h]), sub_block_scales(scales, 4 * h));
        accumulate(sums[r], _mm512_dpbusd_epi32(zero, high, x_high[h]), sub_block_scales(scales, 4 * h + 1));
      }
    }
  }
  for (int r = 0; r < kDotRows; ++r) {
    const __m512 minus = _mm512_zextps256_ps512(mins[r]);
    y[r] = _mm512_reduce_add_ps(_mm512_sub_ps(sums[r], minus));
  }
}

// K is a multiple of 256. A vector holds four groups of 16 values, a group's scale stands in four lanes.
HWY_INLINE void dot4_q6_k(const std::byte* w, std::int64_t stride, const QuantizedRow& x, std::int64_t width, float* y) {
  const __m512i twice = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
  const __m512i fourfold = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
  const __m512i nibble = _mm512_set1_epi8(15), two_bits = _mm512_set1_epi8(0x30);
  const __m512i up = _mm512_set_epi64(2, 2, 2, 2, 4, 4, 4, 4), down = _mm512_set_epi64(2, 2, 2, 2, 0, 0, 0, 0);
  __m512 sums[kDotRows];
  for (auto& sum : sums) sum = _mm512_setzero_ps();
  for (std::int64_t s = 0; s < width / kSuperBlock; ++s) {
    const __m512 xd = _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(_mm256_loadu_ps(x.scales + 8 * s)));
    __m512i xq[4], start[4];
    for (int part = 0; part < 4; ++part) {
      xq[part] = _mm512_loadu_si512(x.q + kSuperBlock * s + 64 * part);
      start[part] = negative_offset(32, xq[part]);
    }
#pragma GCC unroll 4
    for (int r = 0; r < kDotRows; ++r) {
      const auto& block = reinterpret_cast<const BlockQ6_K*>(w + r * stride)[s];
      for (int line = 0; line < 4; ++line) prefetch_ahead(block.low + 64 * line);
      const __m512 group =
          _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(block.scales))));
      const __m512 scales = _mm512_mul_ps(_mm512_mul_ps(group, xd), _mm512_set1_ps(half(block.d)));
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) {
        const __m512i low4 = _mm512_loadu_si512(block.low + 64 * h);
        const __m512i high2 = _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(block.high + 32 * h)));
        const __m512i first =
            _mm512_or_si512(_mm512_and_si512(low4, nibble), _mm512_and_si512(_mm512_sllv_epi64(high2, up), two_bits));
        const __m512i second = _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi16(low4, 4), nibble),
                                               _mm512_and_si512(_mm512_srlv_epi64(high2, down), two_bits));
        const auto group_scales = [&](int index) {
          return _mm512_permutexvar_ps(_mm512_add_epi32(fourfold, _mm512_set1_epi32(4 * index)), scales);
        };
        accumulate(sums[r], _mm512_dpbusd_epi32(start[2 * h], first, xq[2 * h]), group_scales(2 * h));
        accumulate(sums[r], _mm512_dpbusd_epi32(start[2 * h + 1], second, xq[2 * h + 1]), group_scales(2 * h + 1));
      }
    }
  }
  for (int r = 0; r < kDotRows; ++r) y[r] = _mm512_reduce_add_ps(sums[r]);
}

// The dot of four rows of a format straight from its blocks, where there is one and K fits it.
inline bool dot_rows(Format format, const std::byte* w, std::int64_t stride, const QuantizedRow& x, std::int64_t width, float* y) {
  switch (format) {
    case Format::kQ8_0:
      return width % 64 == 0 && (dot4_q8_0(w, stride, x, width, y), true);
    case Format::kQ4_0:
      return width % 128 == 0 && (dot4_q4_0(w, stride, x, width, y), true);
    case Format::kQ4_K:
      return dot4_q4_k(w, stride, x, width, y), true;
    case Format::kQ6_K:
      return dot4_q6_k(w, stride, x, width, y), true;
    default:
      return false;
  }
}

// One unpacked row against one row of X; mins [K / 32] where the format has them, q8 pairs of blocks at a time.
template <int kGroup, bool kMins>
float dot_unpacked(const UnpackedRow& w, int offset, const QuantizedRow& x, std::int64_t width) {
  const __m512i fourfold = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
  const __m512i eightfold = _mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0);
  __m512 sum = _mm512_setzero_ps();
  float minima = 0;
  const std::int64_t pairs = width / 64 * 64;
  for (std::int64_t k = 0; k < pairs; k += 64) {
    const __m512i xq = _mm512_loadu_si512(x.q + k);
    const __m512i dots = _mm512_dpbusd_epi32(negative_offset(static_cast<char>(offset), xq), _mm512_loadu_si512(w.q + k), xq);
    const __m128 xd = _mm_castpd_ps(_mm_load_sd(reinterpret_cast<const double*>(x.scales + k / 32)));
    if constexpr (kGroup == 16) {
      const __m128 d = _mm_mul_ps(_mm_loadu_ps(w.scales + k / 16), _mm_unpacklo_ps(xd, xd));
      accumulate(sum, dots, _mm512_permutexvar_ps(fourfold, _mm512_castps128_ps512(d)));
    } else {
      const __m128 d = _mm_mul_ps(_mm_castpd_ps(_mm_load_sd(reinterpret_cast<const double*>(w.scales + k / 32))), xd);
      accumulate(sum, dots, _mm512_permutexvar_ps(eightfold, _mm512_castps128_ps512(d)));
    }
  }
  float tail = 0;  // a last block of 32
  for (std::int64_t k = pairs; k < width; k += kGroup) {
    std::int32_t dots = 0;
    for (std::int64_t i = k; i < k + kGroup; ++i) dots += (w.q[i] - offset) * x.q[i];
    tail += static_cast<float>(dots) * w.scales[k / kGroup] * x.scales[k / 32];
  }
  if constexpr (kMins) {
    for (std::int64_t b = 0; b < width / 32; ++b) {
      minima += w.mins[b] * (x.scales[b] * static_cast<float>(x.sums[2 * b] + x.sums[2 * b + 1]));
    }
  }
  return _mm512_reduce_add_ps(sum) + tail - minima;
}

}  // namespace
}  // namespace puna::HWY_NAMESPACE
HWY_POP_ATTRIBUTES
