// SPDX-License-Identifier: Apache-2.0
// Rows of quantized weights into one byte per value, in the cache: what the products of many rows, and the dots of formats without
// a dot of their own, read. Included once per instruction set, so without a guard.
#include "kernels/cpu/block_values_inl.h"

HWY_PUSH_ATTRIBUTES(PUNA_INTEGER_TARGET)
namespace puna::HWY_NAMESPACE {
namespace {

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

template <typename Block>
HWY_INLINE void unpack_scales(const Block& block, const UnpackedRow& row) {
  row.scales[0] = half(block.d);
  if constexpr (requires { block.m; }) row.mins[0] = -half(block.m);
}

template <typename Block>
requires requires(const Block& block) { block.dmin; }
HWY_INLINE void unpack_scales(const Block& block, const UnpackedRow& row) {
  const SubScales packed = sub_scales(block.scales);
  const float d = half(block.d), dmin = half(block.dmin);
  for (int j = 0; j < 8; ++j) {
    row.scales[j] = d * static_cast<float>(packed.scales >> (8 * j) & 255);
    row.mins[j] = dmin * static_cast<float>(packed.mins >> (8 * j) & 255);
  }
}

HWY_INLINE void unpack_scales(const BlockQ6_K& block, const UnpackedRow& row) {
  const float d = half(block.d);
  for (int g = 0; g < 16; ++g) row.scales[g] = d * static_cast<float>(block.scales[g]);
}

template <Format kFormat, typename Block>
void unpack_values(const std::byte* blocks, std::int64_t count, UnpackedRow row) {
  constexpr UnpackedForm kForm = unpacked_form(kFormat);
  const auto* block = reinterpret_cast<const Block*>(blocks);
  for (std::int64_t i = 0; i < count; i += kBlockValues<Block>, ++block) {
#pragma GCC unroll 8
    for (int part = 0; part < kBlockValues<Block> / 32; ++part) store32(row.q + i + 32 * part, values(*block, part));
    unpack_scales(*block, {row.q, row.scales + i / kForm.group, kForm.has_mins ? row.mins + i / kForm.group : nullptr});
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
