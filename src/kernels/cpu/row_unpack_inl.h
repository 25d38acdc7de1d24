// SPDX-License-Identifier: Apache-2.0
// Rows of quantized weights into one byte per value, in the cache: what the products of many rows, and the dots of formats without
// a dot of their own, read. Every format becomes  value = scale[g] (q - offset) - min[g]  with groups g of 32 or 16 values:
// symmetric formats have an offset and no minimum, the others a minimum and no offset.
// 256-bit instructions that AVX2 and AVX-512 share. Included once per instruction set, so without a guard.
#include <hwy/highway.h>
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "tensor/blocks.h"
#include "tensor/format.h"

HWY_PUSH_ATTRIBUTES(PUNA_INTEGER_TARGET)
namespace puna::HWY_NAMESPACE {
namespace {

// What the bytes of a format mean once unpacked.
struct UnpackedForm {
  int group;   // values that share a scale: 32 or 16
  int offset;  // subtracted from q
  bool has_mins;
};

constexpr UnpackedForm unpacked_form(Format format) {
  switch (format) {
    case Format::kQ8_0:
      return {32, 128, false};
    case Format::kQ4_0:
      return {32, 8, false};
    case Format::kQ5_0:
      return {32, 16, false};
    case Format::kQ6_K:
      return {16, 32, false};
    default:
      return {32, 0, true};  // Q4_1, Q5_1, Q4_K, Q5_K
  }
}

// Where one row goes: q [K], scales [K / group], mins [K / group].
struct UnpackedRow {
  std::uint8_t* HWY_RESTRICT q;
  float* HWY_RESTRICT scales;
  float* HWY_RESTRICT mins;
};

// Rows of unpacked weights in the cache, row r at r * stride.
struct UnpackedRows {
  const std::uint8_t* q;  // [rows, stride]
  const float* scales;    // [rows, stride / group]
  const float* mins;      // [rows, stride / group]
  std::int64_t stride;
};

// A part of one panel of X, from some k on.
struct PanelPart {
  const std::int8_t* q;      // [K / 4, W, 4]
  const float* scales;       // [K / 32, W]
  const std::int32_t* sums;  // [K / 16, W]
  std::int64_t width;        // K of this part
};

// Rows of W that a dot takes at once: they share the loads of x and give the memory four streams.
inline constexpr int kDotRows = 4;

// One row of X as dots read it: q [K], scales [K / 32], sums [K / 16].
struct QuantizedRow {
  const std::int8_t* q;
  const float* scales;
  const std::int32_t* sums;
};

// Asks for the part of the next four rows that is as far along as `done` bytes are in a row. Rows lie one after the other: over a
// row, the four calls for r = 0..3 and `bytes` each ask for every line of the next group once, in the order of memory, as its banks
// like.
HWY_INLINE void prefetch_next(const std::byte* w, std::int64_t stride, std::int64_t done, int r, std::int64_t bytes) {
  const std::byte* const place = w + kDotRows * (stride + done) + r * bytes;
  for (std::int64_t line = 0; line < bytes; line += 64) _mm_prefetch(reinterpret_cast<const char*>(place + line), _MM_HINT_T0);
}

HWY_INLINE float half(std::uint16_t bits) { return _cvtsh_ss(bits); }

HWY_INLINE __m256i load32(const void* bytes) { return _mm256_loadu_si256(static_cast<const __m256i*>(bytes)); }
HWY_INLINE void store32(std::uint8_t* bytes, __m256i value) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(bytes), value); }
HWY_INLINE __m256i low_nibbles(__m256i packed) { return _mm256_and_si256(packed, _mm256_set1_epi8(15)); }
HWY_INLINE __m256i high_nibbles(__m256i packed) { return low_nibbles(_mm256_srli_epi16(packed, 4)); }
// Bits `bit` of each byte of `packed` (`mask` is one or two bits wide), moved up to bit 4.
HWY_INLINE __m256i bits_to_bit_4(__m256i packed, int bit, char mask) {
  const __m256i moved = bit < 4 ? _mm256_slli_epi16(packed, 4 - bit) : _mm256_srli_epi16(packed, bit - 4);
  return _mm256_and_si256(moved, _mm256_set1_epi8(static_cast<char>(mask << 4)));
}

HWY_INLINE void unpack_block(const BlockQ8_0& block, const UnpackedRow& row) {
  store32(row.q, _mm256_xor_si256(load32(block.q), _mm256_set1_epi8(-128)));
  row.scales[0] = half(block.d);
}

// 16 bytes of two nibbles each -> values 0..15 (low) and 16..31 (high).
HWY_INLINE __m256i unpack_nibbles(const std::uint8_t* packed) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(packed));
  return low_nibbles(_mm256_inserti128_si256(_mm256_castsi128_si256(bytes), _mm_srli_epi16(bytes, 4), 1));
}

HWY_INLINE void unpack_block(const BlockQ4_0& block, const UnpackedRow& row) {
  store32(row.q, unpack_nibbles(block.q));
  row.scales[0] = half(block.d);
}

HWY_INLINE void unpack_block(const BlockQ4_1& block, const UnpackedRow& row) {
  store32(row.q, unpack_nibbles(block.q));
  row.scales[0] = half(block.d);
  row.mins[0] = -half(block.m);
}

// Bit i of `high` as bit 4 of byte i: every byte sees the byte of `high` that holds its bit, and tests it.
HWY_INLINE __m256i fifth_bits_of(const std::uint8_t (&high)[4]) {
  std::int32_t bits = 0;
  std::memcpy(&bits, high, 4);
  const __m256i bytes = _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0);
  const __m256i bit = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201));
  const __m256i seen = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(bits), bytes), bit);
  return _mm256_and_si256(_mm256_cmpeq_epi8(seen, bit), _mm256_set1_epi8(16));
}

HWY_INLINE void unpack_block(const BlockQ5_0& block, const UnpackedRow& row) {
  store32(row.q, _mm256_or_si256(unpack_nibbles(block.q), fifth_bits_of(block.high)));
  row.scales[0] = half(block.d);
}

HWY_INLINE void unpack_block(const BlockQ5_1& block, const UnpackedRow& row) {
  store32(row.q, _mm256_or_si256(unpack_nibbles(block.q), fifth_bits_of(block.high)));
  row.scales[0] = half(block.d);
  row.mins[0] = -half(block.m);
}

// The 6-bit scales and minima of a K block (tensor/blocks.h), eight bytes each.
struct SubScales {
  std::uint64_t scales, mins;
};
HWY_INLINE SubScales sub_scales(const std::uint8_t (&packed)[12]) {
  std::uint32_t a = 0, b = 0, c = 0;
  std::memcpy(&a, packed, 4);
  std::memcpy(&b, packed + 4, 4);
  std::memcpy(&c, packed + 8, 4);
  const std::uint32_t high_scales = (c & 0x0f0f0f0fu) | (a >> 2 & 0x30303030u);
  const std::uint32_t high_mins = (c >> 4 & 0x0f0f0f0fu) | (b >> 2 & 0x30303030u);
  return {(a & 0x3f3f3f3fu) | std::uint64_t{high_scales} << 32, (b & 0x3f3f3f3fu) | std::uint64_t{high_mins} << 32};
}

template <typename Block>
HWY_INLINE void unpack_sub_scales(const Block& block, const UnpackedRow& row) {
  const SubScales packed = sub_scales(block.scales);
  const float d = half(block.d), dmin = half(block.dmin);
  for (int j = 0; j < 8; ++j) {
    row.scales[j] = d * static_cast<float>(packed.scales >> (8 * j) & 255);
    row.mins[j] = dmin * static_cast<float>(packed.mins >> (8 * j) & 255);
  }
}

HWY_INLINE void unpack_block(const BlockQ4_K& block, const UnpackedRow& row) {
  for (int pair = 0; pair < 4; ++pair) {
    const __m256i packed = load32(block.q + 32 * pair);
    store32(row.q + 64 * pair, low_nibbles(packed));
    store32(row.q + 64 * pair + 32, high_nibbles(packed));
  }
  unpack_sub_scales(block, row);
}

HWY_INLINE void unpack_block(const BlockQ5_K& block, const UnpackedRow& row) {
  const __m256i high = load32(block.high);
#pragma GCC unroll 4
  for (int pair = 0; pair < 4; ++pair) {
    const __m256i packed = load32(block.q + 32 * pair);
    store32(row.q + 64 * pair, _mm256_or_si256(low_nibbles(packed), bits_to_bit_4(high, 2 * pair, 1)));
    store32(row.q + 64 * pair + 32, _mm256_or_si256(high_nibbles(packed), bits_to_bit_4(high, 2 * pair + 1, 1)));
  }
  unpack_sub_scales(block, row);
}

HWY_INLINE void unpack_block(const BlockQ6_K& block, const UnpackedRow& row) {
  for (int h = 0; h < 2; ++h) {
    const __m256i first = load32(block.low + 64 * h), second = load32(block.low + 64 * h + 32);
    const __m256i high = load32(block.high + 32 * h);
    std::uint8_t* const q = row.q + 128 * h;
    store32(q, _mm256_or_si256(low_nibbles(first), bits_to_bit_4(high, 0, 3)));
    store32(q + 32, _mm256_or_si256(low_nibbles(second), bits_to_bit_4(high, 2, 3)));
    store32(q + 64, _mm256_or_si256(high_nibbles(first), bits_to_bit_4(high, 4, 3)));
    store32(q + 96, _mm256_or_si256(high_nibbles(second), bits_to_bit_4(high, 6, 3)));
  }
  const float d = half(block.d);
  for (int g = 0; g < 16; ++g) row.scales[g] = d * static_cast<float>(block.scales[g]);
}

template <Format kFormat, typename Block>
void unpack_values(const std::byte* blocks, std::int64_t count, UnpackedRow row) {
  constexpr int kValues = sizeof(Block) > 100 ? kSuperBlock : kBlock;
  constexpr UnpackedForm kForm = unpacked_form(kFormat);
  const auto* block = reinterpret_cast<const Block*>(blocks);
  for (std::int64_t i = 0; i < count; i += kValues, ++block) {
    unpack_block(*block, {row.q + i, row.scales + i / kForm.group, kForm.has_mins ? row.mins + i / kForm.group : nullptr});
  }
}

// blocks [count / block_values] -> row.
inline void unpack(Format format, const std::byte* blocks, std::int64_t count, const UnpackedRow& row) {
  switch (format) {
    case Format::kQ8_0:
      return unpack_values<Format::kQ8_0, BlockQ8_0>(blocks, count, row);
    case Format::kQ4_0:
      return unpack_values<Format::kQ4_0, BlockQ4_0>(blocks, count, row);
    case Format::kQ4_1:
      return unpack_values<Format::kQ4_1, BlockQ4_1>(blocks, count, row);
    case Format::kQ5_0:
      return unpack_values<Format::kQ5_0, BlockQ5_0>(blocks, count, row);
    case Format::kQ5_1:
      return unpack_values<Format::kQ5_1, BlockQ5_1>(blocks, count, row);
    case Format::kQ4_K:
      return unpack_values<Format::kQ4_K, BlockQ4_K>(blocks, count, row);
    case Format::kQ5_K:
      return unpack_values<Format::kQ5_K, BlockQ5_K>(blocks, count, row);
    case Format::kQ6_K:
      return unpack_values<Format::kQ6_K, BlockQ6_K>(blocks, count, row);
    default:
      return;  // the front sends no other
  }
}

}  // namespace
}  // namespace puna::HWY_NAMESPACE
HWY_POP_ATTRIBUTES
