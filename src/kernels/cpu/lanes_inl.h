// SPDX-License-Identifier: Apache-2.0
// Eight rows of quantized weights side by side: each lane of a vector belongs to one row of W. 256-bit instructions that AVX2 and
// AVX-512 share. Included once per instruction set, behind block_values_inl.h, so without a guard.
#include <immintrin.h>

#include <algorithm>
#include <array>

#include "tensor/tensor.h"

HWY_PUSH_ATTRIBUTES(PUNA_INTEGER_TARGET)
namespace puna::HWY_NAMESPACE {
namespace {

inline constexpr std::int64_t kLanes = 8;
inline constexpr std::int64_t kSpan = 2048;  // values of K in the first cache

// A format: its block, and its bytes, unsigned.
template <Format kFormat, typename B>
struct LaneFormat {
  using Block = B;
  static constexpr UnpackedForm kForm = unpacked_form(kFormat);
  static constexpr bool kTakesOffset = !kForm.has_mins;
  static constexpr int kValues = kBlockValues<Block>, kParts = kValues / 32, kGroups = kValues / kForm.group;

  static constexpr std::int64_t bytes(std::int64_t values) { return values / kValues * static_cast<std::int64_t>(sizeof(Block)); }
  static HWY_INLINE __m256i part(const Block& block, int part) { return values(block, part); }
};

// Eight neighbouring rows of W, `stride` bytes apart. A matrix of fewer rows is taken row by row: all lanes are the same one.
struct EightRows {
  const std::byte* first;
  std::int64_t stride;

  template <typename Block>
  HWY_INLINE const Block& block(std::int64_t row, std::int64_t index) const {
    return reinterpret_cast<const Block*>(first + row * stride)[index];
  }
};

// Eight F16 numbers, one of each row.
template <typename Member>
HWY_INLINE __m256 eight_halves(Member&& of_row) {
  const auto at = [&](int row) { return static_cast<short>(of_row(row)); };
  return _mm256_cvtph_ps(_mm_setr_epi16(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)));
}

// Eight bytes of eight rows -> two columns in each vector: column j of row r is byte 8 (j % 2) + r of columns[j / 2].
HWY_INLINE void transpose_bytes(const std::array<std::uint64_t, kLanes>& rows, __m128i (&columns)[4]) {
  __m128i pairs[4], fours[4];
  for (int i = 0; i < 4; ++i)
    pairs[i] = _mm_unpacklo_epi8(_mm_cvtsi64_si128(static_cast<long long>(rows[2 * i])),
                                 _mm_cvtsi64_si128(static_cast<long long>(rows[2 * i + 1])));
  for (int h = 0; h < 2; ++h) {
    fours[2 * h] = _mm_unpacklo_epi16(pairs[2 * h], pairs[2 * h + 1]);
    fours[2 * h + 1] = _mm_unpackhi_epi16(pairs[2 * h], pairs[2 * h + 1]);
  }
  for (int h = 0; h < 2; ++h) {
    columns[2 * h] = _mm_unpacklo_epi32(fours[h], fours[h + 2]);
    columns[2 * h + 1] = _mm_unpackhi_epi32(fours[h], fours[h + 2]);
  }
}

// Eight columns of bytes times d -> to [8, 8].
template <bool kSignedBytes>
HWY_INLINE void store_scaled(const std::array<std::uint64_t, kLanes>& rows, __m256 d, float* to) {
  __m128i columns[4];
  transpose_bytes(rows, columns);
  for (int j = 0; j < 8; ++j) {
    const __m128i column = j % 2 == 0 ? columns[j / 2] : _mm_unpackhi_epi64(columns[j / 2], columns[j / 2]);
    const __m256i wide = kSignedBytes ? _mm256_cvtepi8_epi32(column) : _mm256_cvtepu8_epi32(column);
    _mm256_store_ps(to + j * kLanes, _mm256_mul_ps(_mm256_cvtepi32_ps(wide), d));
  }
}

// The scales and minima of one block of each row -> scales [groups, 8], mins [groups, 8].
template <typename Block>
HWY_INLINE void lane_scales(const EightRows& rows, std::int64_t index, float* scales, float* mins) {
  const __m256 d = eight_halves([&](int r) { return rows.block<Block>(r, index).d; });
  if constexpr (requires(const Block& block) { block.dmin; }) {
    std::array<std::uint64_t, kLanes> packed_scales, packed_mins;
    for (int r = 0; r < kLanes; ++r) {
      const SubScales packed = sub_scales(rows.block<Block>(r, index).scales);
      packed_scales[r] = packed.scales;
      packed_mins[r] = packed.mins;
    }
    store_scaled<false>(packed_scales, d, scales);
    store_scaled<false>(packed_mins, eight_halves([&](int r) { return rows.block<Block>(r, index).dmin; }), mins);
  } else if constexpr (requires(const Block& block) { block.scales; }) {
    for (int h = 0; h < 2; ++h) {
      std::array<std::uint64_t, kLanes> packed;
      for (int r = 0; r < kLanes; ++r) std::memcpy(&packed[r], rows.block<Block>(r, index).scales + 8 * h, 8);
      store_scaled<true>(packed, d, scales + 8 * h * kLanes);
    }
  } else {
    _mm256_store_ps(scales, d);
    if constexpr (requires(const Block& block) { block.m; }) {
      const __m256 m = eight_halves([&](int r) { return rows.block<Block>(r, index).m; });
      _mm256_store_ps(mins, _mm256_sub_ps(_mm256_setzero_ps(), m));
    }
  }
}

// Of a span of eight rows in lanes.
struct LaneScales {
  alignas(32) std::array<float, kSpan / 16 * kLanes> scales;  // [span / group, 8]
  alignas(32) std::array<float, kSpan / 32 * kLanes> mins;    // [span / 32, 8]
};

// v [8 rows, 8 words] -> to [8 words, 8 rows], words `stride` bytes apart.
HWY_INLINE void transpose_words(const __m256i (&v)[kLanes], std::uint8_t* to, std::int64_t stride) {
  __m256i pairs[kLanes], fours[kLanes];
  for (int r = 0; r < kLanes; r += 2) {
    pairs[r] = _mm256_unpacklo_epi32(v[r], v[r + 1]);
    pairs[r + 1] = _mm256_unpackhi_epi32(v[r], v[r + 1]);
  }
  for (int h = 0; h < kLanes; h += 4) {
    for (int i = 0; i < 2; ++i) {
      fours[h + 2 * i] = _mm256_unpacklo_epi64(pairs[h + i], pairs[h + i + 2]);
      fours[h + 2 * i + 1] = _mm256_unpackhi_epi64(pairs[h + i], pairs[h + i + 2]);
    }
  }
  for (int i = 0; i < 4; ++i) {
    store32(to + stride * i, _mm256_permute2x128_si256(fours[i], fours[i + 4], 0x20));
    store32(to + stride * (i + 4), _mm256_permute2x128_si256(fours[i], fours[i + 4], 0x31));
  }
}

// Values [k, k + span) of the rows -> q [span / 4, 8, 4], what belongs to four values of K `stride` bytes apart.
template <typename F>
void unpack_lanes(const EightRows& rows, std::int64_t k, std::int64_t span, std::uint8_t* q, std::int64_t stride,
                  LaneScales& lanes) {
  using Block = typename F::Block;
  float *scales = lanes.scales.data(), *mins = lanes.mins.data();
  for (std::int64_t b = k / F::kValues; b < (k + span) / F::kValues; ++b) {
    lane_scales<Block>(rows, b, scales, mins);
    scales += F::kGroups * kLanes;
    mins += F::kParts * kLanes;
    for (int part = 0; part < F::kParts; ++part, q += 8 * stride) {
      __m256i bytes[kLanes];
#pragma GCC unroll 8
      for (int r = 0; r < kLanes; ++r) bytes[r] = F::part(rows.block<Block>(r, b), part);
      transpose_words(bytes, q, stride);
    }
  }
}

// The rows [begin, end) of a product that eight lanes give: y [T, N] from row `first` of W on, lanes outside are not stored.
struct Lanes {
  EightRows rows;
  float* y;
  __m256i mask;
};

// Where W has eight rows, the last ones may be read twice; otherwise one row fills all lanes and the first is stored.
inline Lanes lanes_from(const Product& product, std::int64_t n, std::int64_t end) {
  const Tensor& w = *product.weight;
  const bool whole = w.shape[0] >= kLanes;
  const std::int64_t first = whole ? std::min(n, w.shape[0] - kLanes) : n, last = whole ? end - first : 1;
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i from = _mm256_set1_epi32(static_cast<int>(n - first)),
                to = _mm256_set1_epi32(static_cast<int>(std::min(last, kLanes)));
  return {{w.row(first), whole ? w.row_bytes() : 0},
          product.y + first,
          _mm256_andnot_si256(_mm256_cmpgt_epi32(from, lane), _mm256_cmpgt_epi32(to, lane))};
}

inline std::int64_t rows_at_once(const Product& product) { return product.weight->shape[0] >= kLanes ? kLanes : 1; }

}  // namespace
}  // namespace puna::HWY_NAMESPACE
HWY_POP_ATTRIBUTES
