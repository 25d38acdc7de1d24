// SPDX-License-Identifier: Apache-2.0
// Dots of four rows of quantized weights with one row of 8-bit activations, AVX-512 with VNNI, straight from the blocks of the
// file. Four rows share the loads of x and give the memory four streams. Integer products of a block are exact; each is converted
// and added to an F32 lane times its scale: acc += float(sum q_w q_x) (d_w d_x). Lanes are summed at the end. A symmetric format's
// offset is taken off as an integer: the sum starts at -offset * sum(q_x), which all four rows share.
#include <immintrin.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <type_traits>

HWY_PUSH_ATTRIBUTES(PUNA_INTEGER_TARGET)
namespace puna::HWY_NAMESPACE {
namespace {

// Rows of W that a dot takes at once: they share the loads of x and give the memory four streams.
inline constexpr int kDotRows = 4;

// Asks for the part of the next four rows that is as far along as `done` bytes are in a row. Rows lie one after the other: over a
// row, the four calls for r = 0..3 and `bytes` each ask for every line of the next group once, in the order of memory, as its banks
// like; into the second-level cache, so that the first one's few pending lines are left to the loads.
HWY_INLINE void prefetch_next(const std::byte* w, std::int64_t stride, std::int64_t done, int r, std::int64_t bytes) {
  const std::byte* const place = w + kDotRows * (stride + done) + r * bytes;
  for (std::int64_t line = 0; line < bytes; line += 64) _mm_prefetch(reinterpret_cast<const char*>(place + line), _MM_HINT_T1);
}

// What K must be a multiple of for the dots of these formats.
inline constexpr std::int64_t kQ8_0Step = 64, kQ4_0Step = 128;

// -value * sum of each group of four bytes of x.
HWY_INLINE __m512i negative_offset(char value, __m512i x) {
  return _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(value), x));
}

// Two neighbouring floats, which rows of an odd number of blocks do not put at multiples of eight bytes.
HWY_INLINE __m128 two_floats(const float* from) {
  long long bits = 0;
  std::memcpy(&bits, from, sizeof bits);
  return _mm_castsi128_ps(_mm_cvtsi64_si128(bits));
}

HWY_INLINE void accumulate(__m512& sum, __m512i dots, __m512 scales) {
  sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots), scales, sum);
}

// Indices of 16-bit numbers, each standing in a run of equal lanes: the scales of blocks that lie `step` numbers apart.
template <int kRun>
HWY_INLINE __m512i spread_index(int step) {
  alignas(64) std::array<std::uint16_t, 32> index{};
  for (int lane = 0; lane < 16; ++lane) index[static_cast<std::size_t>(lane)] = static_cast<std::uint16_t>(lane / kRun * step);
  return _mm512_load_si512(index.data());
}

// Indices of the quants' bytes of 64 values in two loads, the second `shift` bytes after the first (numbers from 64 on):
// blocks of `bytes` bytes whose quants begin at byte 2 and are `quants` long.
HWY_INLINE __m512i quant_index(int bytes, int quants, int shift) {
  alignas(64) std::array<std::uint8_t, 64> index{};
  for (int i = 0; i < 64; ++i) {
    const int place = i / quants * bytes + 2 + i % quants;
    index[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(place < 64 ? place : 64 + place - shift);
  }
  return _mm512_load_si512(index.data());
}

// The F16 numbers at `index` of a load, as F32.
HWY_INLINE __m512 spread_halves(__m512i index, __m512i loaded) {
  return _mm512_cvtph_ps(_mm512_castsi512_si256(_mm512_permutexvar_epi16(index, loaded)));
}

// Four rows of W, `stride` bytes apart -> y [4]. K is a multiple of 64: two blocks, 68 bytes, at a time.
HWY_INLINE void dot4_q8_0(const std::byte* w, std::int64_t stride, const QuantizedRow& x, std::int64_t width, float* y) {
  const __m512i eightfold = _mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0);
  const __m512i scale_index = spread_index<8>(17), q_index = quant_index(34, 32, 4);
  __m512 sums[kDotRows];
  for (auto& sum : sums) sum = _mm512_setzero_ps();
  for (std::int64_t b = 0; b < width / 32; b += 2) {
    const __m512i xq = _mm512_loadu_si512(x.q + 32 * b);
    const __m512i start = negative_offset(static_cast<char>(128), xq);
    const __m128 pair = two_floats(x.scales + b);
    const __m512 xd = _mm512_permutexvar_ps(eightfold, _mm512_castps128_ps512(pair));
#pragma GCC unroll 4
    for (int r = 0; r < kDotRows; ++r) {
      const std::byte* const blocks = w + r * stride + b * 34;
      prefetch_next(w, stride, b * 34, r, 68);
      const __m512i first = _mm512_loadu_si512(blocks), last = _mm512_loadu_si512(blocks + 4);
      const __m512i wq = _mm512_xor_si512(_mm512_permutex2var_epi8(first, q_index, last), _mm512_set1_epi8(-128));
      accumulate(sums[r], _mm512_dpbusd_epi32(start, wq, xq), _mm512_mul_ps(spread_halves(scale_index, first), xd));
    }
  }
  for (int r = 0; r < kDotRows; ++r) y[r] = _mm512_reduce_add_ps(sums[r]);
}

// K is a multiple of 128: four blocks, 72 bytes, at a time; low nibbles (values 0..15 of each block) in one vector, high nibbles in
// another.
HWY_INLINE void dot4_q4_0(const std::byte* w, std::int64_t stride, const QuantizedRow& x, std::int64_t width, float* y) {
  const __m512i fourfold = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
  const __m512i scale_index = spread_index<4>(9), q_index = quant_index(18, 16, 8);
  const __m512i nibble = _mm512_set1_epi8(15);
  __m512 sums[kDotRows];
  for (auto& sum : sums) sum = _mm512_setzero_ps();
  for (std::int64_t b = 0; b < width / 32; b += 4) {
    const __m512i x01 = _mm512_loadu_si512(x.q + 32 * b), x23 = _mm512_loadu_si512(x.q + 32 * b + 64);
    const __m512i x_low = _mm512_shuffle_i64x2(x01, x23, 0b10'00'10'00), x_high = _mm512_shuffle_i64x2(x01, x23, 0b11'01'11'01);
    const __m512i start = _mm512_add_epi32(negative_offset(8, x_low), negative_offset(8, x_high));
    const __m512 xd = _mm512_permutexvar_ps(fourfold, _mm512_castps128_ps512(_mm_loadu_ps(x.scales + b)));
#pragma GCC unroll 4
    for (int r = 0; r < kDotRows; ++r) {
      const std::byte* const blocks = w + r * stride + b * 18;
      prefetch_next(w, stride, b * 18, r, 72);
      const __m512i first = _mm512_loadu_si512(blocks), last = _mm512_loadu_si512(blocks + 8);
      const __m512i q = _mm512_permutex2var_epi8(first, q_index, last);
      const __m512i low = _mm512_and_si512(q, nibble), high = _mm512_and_si512(_mm512_srli_epi16(q, 4), nibble);
      const __m512 scales = _mm512_mul_ps(spread_halves(scale_index, first), xd);
      accumulate(sums[r], _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(start, low, x_low), high, x_high), scales);
    }
  }
  for (int r = 0; r < kDotRows; ++r) y[r] = _mm512_reduce_add_ps(sums[r]);
}

// Of one super-block of x: the eight scales, then the eight blocks' sums of q times their scales.
HWY_INLINE __m512 scales_and_sums(const QuantizedRow& x, std::int64_t super) {
  const __m512i halves = _mm512_loadu_si512(x.sums + 16 * super);
  const __m512i pairs = _mm512_add_epi32(halves, _mm512_srli_epi64(halves, 32));
  const __m256 scales = _mm256_loadu_ps(x.scales + 8 * super);
  const __m256 sums = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm512_cvtepi64_epi32(pairs)), scales);
  return _mm512_insertf32x8(_mm512_castps256_ps512(scales), sums, 1);
}

// Of one K block: d s[0..7], then dmin m[0..7]. `header` is the block's first 16 bytes: d, dmin and the packed 6-bit numbers
// (tensor/blocks.h): the low bits of each number are cut out by one multishift, the high bits by another.
HWY_INLINE __m512 sub_block_scales(__m128i header) {
  const __m128i order = _mm_set_epi8(15, 14, 13, 12, 11, 10, 9, 8, 15, 14, 13, 12, 7, 6, 5, 4);
  const __m128i low_bits = _mm_set_epi8(60, 52, 44, 36, 24, 16, 8, 0, 56, 48, 40, 32, 24, 16, 8, 0);
  const __m128i high_bits = _mm_set_epi8(26, 18, 10, 2, 0, 0, 0, 0, 26, 18, 10, 2, 0, 0, 0, 0);
  const __m128i low_mask = _mm_set_epi8(15, 15, 15, 15, 63, 63, 63, 63, 15, 15, 15, 15, 63, 63, 63, 63);
  const __m128i high_mask = _mm_set_epi8(48, 48, 48, 48, 0, 0, 0, 0, 48, 48, 48, 48, 0, 0, 0, 0);
  const __m128i packed = _mm_shuffle_epi8(header, order);
  const __m128i low = _mm_and_si128(_mm_multishift_epi64_epi8(low_bits, packed), low_mask);
  const __m128i numbers = _mm_or_si128(low, _mm_and_si128(_mm_multishift_epi64_epi8(high_bits, packed), high_mask));
  const __m512i halves = _mm512_set_epi64(0, 0, 0, 0, 0x0001000100010001, 0x0001000100010001, 0, 0);
  return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(numbers)), spread_halves(halves, _mm512_castsi128_si512(header)));
}

// Bit 4 of each value of half h: bits 4h, 4h + 2 of `high` (low nibbles; upper = 0) or 4h + 1, 4h + 3 (high nibbles; upper = 1).
template <int kHalf>
HWY_INLINE __m512i fifth_bits(__m512i high, int upper) {
  const auto shifts = [](long long first, long long second) {
    return _mm512_set_epi64(second, second, second, second, first, first, first, first);
  };
  const __m512i moved =
      kHalf == 0 ? _mm512_sllv_epi64(high, shifts(4 - upper, 2 - upper)) : _mm512_srlv_epi64(high, shifts(upper, 2 + upper));
  return _mm512_and_si512(moved, _mm512_set1_epi8(0x10));
}

// One half of a K block: sub-blocks 4h and 4h + 2 stand in low nibbles, 4h + 1 and 4h + 3 in high nibbles.
template <int kHalf, typename Block>
HWY_INLINE void add_half(__m512& sum, const Block& block, __m512 scales, __m512i x_low, __m512i x_high) {
  const __m512i nibble = _mm512_set1_epi8(15), zero = _mm512_setzero_si512();
  const __m512i q = _mm512_loadu_si512(block.q + 64 * kHalf);
  __m512i low = _mm512_and_si512(q, nibble), high = _mm512_and_si512(_mm512_srli_epi16(q, 4), nibble);
  if constexpr (std::is_same_v<Block, BlockQ5_K>) {
    const __m512i fifth = _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(block.high)));
    low = _mm512_or_si512(low, fifth_bits<kHalf>(fifth, 0));
    high = _mm512_or_si512(high, fifth_bits<kHalf>(fifth, 1));
  }
  const auto lanes = [&](int first) {
    return _mm512_permutexvar_ps(_mm512_inserti64x4(_mm512_set1_epi32(first), _mm256_set1_epi32(first + 2), 1), scales);
  };
  accumulate(sum, _mm512_dpbusd_epi32(zero, low, x_low), lanes(4 * kHalf));
  accumulate(sum, _mm512_dpbusd_epi32(zero, high, x_high), lanes(4 * kHalf + 1));
}

// Q4_K and Q5_K. K is a multiple of 256.
template <typename Block>
HWY_INLINE void dot4_k(const std::byte* w, std::int64_t stride, const QuantizedRow& x, std::int64_t width, float* y) {
  __m512 sums[kDotRows], mins[kDotRows];  // the upper eight lanes of `mins` are sums of dmin m sum(x); the lower are not used
  for (int r = 0; r < kDotRows; ++r) sums[r] = mins[r] = _mm512_setzero_ps();
  for (std::int64_t s = 0; s < width / kSuperBlock; ++s) {
    const __m512 x_factors = scales_and_sums(x, s);
    __m512i x_low[2], x_high[2];
    for (int h = 0; h < 2; ++h) {
      const __m512i x01 = _mm512_loadu_si512(x.q + kSuperBlock * s + 128 * h);
      const __m512i x23 = _mm512_loadu_si512(x.q + kSuperBlock * s + 128 * h + 64);
      x_low[h] = _mm512_shuffle_i64x2(x01, x23, 0b01'00'01'00);
      x_high[h] = _mm512_shuffle_i64x2(x01, x23, 0b11'10'11'10);
    }
#pragma GCC unroll 4
    for (int r = 0; r < kDotRows; ++r) {
      const auto& block = reinterpret_cast<const Block*>(w + r * stride)[s];
      prefetch_next(w, stride, s * static_cast<std::int64_t>(sizeof(Block)), r, sizeof(Block));
      const __m512 scales = _mm512_mul_ps(sub_block_scales(_mm_loadu_si128(reinterpret_cast<const __m128i*>(&block))), x_factors);
      mins[r] = _mm512_add_ps(mins[r], scales);
      add_half<0>(sums[r], block, scales, x_low[0], x_high[0]);
      add_half<1>(sums[r], block, scales, x_low[1], x_high[1]);
    }
  }
  for (int r = 0; r < kDotRows; ++r) {
    const __m512 minus = _mm512_maskz_mov_ps(0xff00, mins[r]);
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
      prefetch_next(w, stride, s * 210, r, 210);
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
    const __m128 xd = two_floats(x.scales + k / 32);
    if constexpr (kGroup == 16) {
      const __m128 d = _mm_mul_ps(_mm_loadu_ps(w.scales + k / 16), _mm_unpacklo_ps(xd, xd));
      accumulate(sum, dots, _mm512_permutexvar_ps(fourfold, _mm512_castps128_ps512(d)));
    } else {
      const __m128 d = _mm_mul_ps(two_floats(w.scales + k / 32), xd);
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
