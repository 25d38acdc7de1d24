// SPDX-License-Identifier: Apache-2.0
// Rows of quantized weights into one byte per value, in the cache: what the products of many rows, and the dots of formats without
// a dot of their own, read. Every format becomes  value = scale[g] (q - offset) - min[g]  with groups g of 32 or 16 values:
// symmetric formats have an offset and no minimum, the others a minimum and no offset.
// Plain loops: the compiler vectorises them for each target. Included once per instruction set, so without a guard.
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

HWY_INLINE float half(std::uint16_t bits) { return _cvtsh_ss(bits); }

HWY_INLINE void unpack_block(const BlockQ8_0& block, const UnpackedRow& row) {
  for (int i = 0; i < 32; ++i) row.q[i] = static_cast<std::uint8_t>(block.q[i]) ^ 0x80;
  row.scales[0] = half(block.d);
}

HWY_INLINE void unpack_nibbles(const std::uint8_t* HWY_RESTRICT packed, std::uint8_t* HWY_RESTRICT q) {
  for (int i = 0; i < 16; ++i) {
    q[i] = packed[i] & 15;
    q[i + 16] = packed[i] >> 4;
  }
}

HWY_INLINE void unpack_block(const BlockQ4_0& block, const UnpackedRow& row) {
  unpack_nibbles(block.q, row.q);
  row.scales[0] = half(block.d);
}

HWY_INLINE void unpack_block(const BlockQ4_1& block, const UnpackedRow& row) {
  unpack_nibbles(block.q, row.q);
  row.scales[0] = half(block.d);
  row.mins[0] = -half(block.m);
}

// Adds bit i of `high` as the fifth bit of q[i].
HWY_INLINE void add_fifth_bits(const std::uint8_t (&high)[4], std::uint8_t* HWY_RESTRICT q) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, high, 4);
  for (std::uint32_t i = 0; i < 32; ++i) q[i] = static_cast<std::uint8_t>(q[i] | (bits >> i & 1) << 4);
}

HWY_INLINE void unpack_block(const BlockQ5_0& block, const UnpackedRow& row) {
  unpack_nibbles(block.q, row.q);
  add_fifth_bits(block.high, row.q);
  row.scales[0] = half(block.d);
}

HWY_INLINE void unpack_block(const BlockQ5_1& block, const UnpackedRow& row) {
  unpack_nibbles(block.q, row.q);
  add_fifth_bits(block.high, row.q);
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
    for (int i = 0; i < 32; ++i) row.q[64 * pair + i] = block.q[32 * pair + i] & 15;
    for (int i = 0; i < 32; ++i) row.q[64 * pair + 32 + i] = block.q[32 * pair + i] >> 4;
  }
  unpack_sub_scales(block, row);
}

HWY_INLINE void unpack_block(const BlockQ5_K& block, const UnpackedRow& row) {
  for (int pair = 0; pair < 4; ++pair) {
    const auto fifth = [&](int i, int bit) { return static_cast<std::uint8_t>((block.high[i] >> bit & 1) << 4); };
    for (int i = 0; i < 32; ++i) {
      row.q[64 * pair + i] = static_cast<std::uint8_t>((block.q[32 * pair + i] & 15) | fifth(i, 2 * pair));
    }
    for (int i = 0; i < 32; ++i) {
      row.q[64 * pair + 32 + i] = static_cast<std::uint8_t>(block.q[32 * pair + i] >> 4 | fifth(i, 2 * pair + 1));
    }
  }
  unpack_sub_scales(block, row);
}

HWY_INLINE void unpack_block(const BlockQ6_K& block, const UnpackedRow& row) {
  for (int h = 0; h < 2; ++h) {
    const std::uint8_t* const low = block.low + 64 * h;
    const std::uint8_t* const high = block.high + 32 * h;
    std::uint8_t* const q = row.q + 128 * h;
    for (int i = 0; i < 32; ++i) q[i] = static_cast<std::uint8_t>((low[i] & 15) | (high[i] & 3) << 4);
    for (int i = 0; i < 32; ++i) q[32 + i] = static_cast<std::uint8_t>((low[32 + i] & 15) | (high[i] >> 2 & 3) << 4);
    for (int i = 0; i < 32; ++i) q[64 + i] = static_cast<std::uint8_t>(low[i] >> 4 | (high[i] >> 4 & 3) << 4);
    for (int i = 0; i < 32; ++i) q[96 + i] = static_cast<std::uint8_t>(low[32 + i] >> 4 | (high[i] >> 6) << 4);
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
