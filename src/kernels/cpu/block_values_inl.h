// SPDX-License-Identifier: Apache-2.0
// The values of quantized blocks, 32 at a time, one byte each. Every format becomes  value = scale[g] (q - offset) - min[g]  with
// groups g of 32 or 16 values: symmetric formats have an offset and no minimum, the others a minimum and no offset.
// 256-bit instructions that AVX2 and AVX-512 share. Included once per instruction set, so without a guard.
#include <hwy/highway.h>
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels/activations.h"
#include "tensor/blocks.h"
#include "tensor/format.h"

HWY_PUSH_ATTRIBUTES(PUNA_INTEGER_TARGET)
namespace puna::HWY_NAMESPACE {
namespace {

// What the bytes of a format mean as values() gives them.
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

// One row of X: q [K], scales [K / 32], sums [K / 16].
struct QuantizedRow {
  const std::int8_t* q;
  const float* scales;
  const std::int32_t* sums;
};

inline QuantizedRow quantized_row(const Activations& x, std::int64_t t, std::int64_t k) {
  return {x.quantized.q + t * x.width + k, x.quantized.scales + (t * x.width + k) / 32, x.quantized.sums + (t * x.width + k) / 16};
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

// 16 bytes of two nibbles each -> values 0..15 (low) and 16..31 (high).
HWY_INLINE __m256i unpack_nibbles(const std::uint8_t* packed) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(packed));
  return low_nibbles(_mm256_inserti128_si256(_mm256_castsi128_si256(bytes), _mm_srli_epi16(bytes, 4), 1));
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

// The unsigned q of values [32 part, 32 part + 32) of a block. Q8_0's signed bytes are moved up by 128.
HWY_INLINE __m256i values(const BlockQ8_0& block, int) { return _mm256_xor_si256(load32(block.q), _mm256_set1_epi8(-128)); }
HWY_INLINE __m256i values(const BlockQ4_0& block, int) { return unpack_nibbles(block.q); }
HWY_INLINE __m256i values(const BlockQ4_1& block, int) { return unpack_nibbles(block.q); }
HWY_INLINE __m256i values(const BlockQ5_0& block, int) {
  return _mm256_or_si256(unpack_nibbles(block.q), fifth_bits_of(block.high));
}
HWY_INLINE __m256i values(const BlockQ5_1& block, int) {
  return _mm256_or_si256(unpack_nibbles(block.q), fifth_bits_of(block.high));
}
HWY_INLINE __m256i values(const BlockQ4_K& block, int part) {
  const __m256i packed = load32(block.q + 32 * (part / 2));
  return part % 2 == 0 ? low_nibbles(packed) : high_nibbles(packed);
}
HWY_INLINE __m256i values(const BlockQ5_K& block, int part) {
  const __m256i packed = load32(block.q + 32 * (part / 2));
  const __m256i low = part % 2 == 0 ? low_nibbles(packed) : high_nibbles(packed);
  return _mm256_or_si256(low, bits_to_bit_4(load32(block.high), part, 1));
}
HWY_INLINE __m256i values(const BlockQ6_K& block, int part) {
  const int h = part / 4, quarter = part % 4;
  const __m256i packed = load32(block.low + 64 * h + 32 * (quarter % 2));
  const __m256i low = quarter < 2 ? low_nibbles(packed) : high_nibbles(packed);
  return _mm256_or_si256(low, bits_to_bit_4(load32(block.high + 32 * h), 2 * quarter, 3));
}

template <typename Block>
inline constexpr int kBlockValues = sizeof(Block) > 100 ? kSuperBlock : kBlock;

}  // namespace
}  // namespace puna::HWY_NAMESPACE
HWY_POP_ATTRIBUTES
