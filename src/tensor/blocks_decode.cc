// SPDX-License-Identifier: Apache-2.0
// Quantized blocks to F32, by the formulas of tensor/blocks.h. The order of the multiplications and of the one subtraction is that
// of the reference decoder, because each rounds: d * s is rounded before it meets q.
#include <bit>
#include <cstring>

#include "tensor/blocks.h"
#include "tensor/codecs.h"
#include "tensor/half.h"
#include "tensor/kscales.h"

static_assert(std::endian::native == std::endian::little, "blocks are read in place, and files are little-endian");

namespace puna {
namespace {

// The fifth bits of 32 values -> 0 or 16 for each.
void spread_fifth_bits(const std::uint8_t (&high)[4], std::uint8_t (&bits)[kBlock]) {
  std::uint32_t word;
  std::memcpy(&word, high, sizeof(word));
  for (int i = 0; i < kBlock; ++i) bits[i] = static_cast<std::uint8_t>((word >> i & 1) << 4);
}

// low nibbles, then high nibbles, each with its fifth bit -> 32 numbers 0..31
template <typename Block>
void five_bit_numbers(const Block& block, std::uint8_t (&q)[kBlock]) {
  spread_fifth_bits(block.high, q);
  for (int i = 0; i < kHalfBlock; ++i) {
    q[i] |= block.q[i] & 15;
    q[i + kHalfBlock] |= block.q[i] >> 4;
  }
}

}  // namespace

void decode_q8_0(const void* blocks, float* values, std::int64_t count) {
  const auto* block = static_cast<const BlockQ8_0*>(blocks);
  for (const float* end = values + count; values < end; values += kBlock, ++block) {
    const float d = f32_from_f16(block->d);
    for (int i = 0; i < kBlock; ++i) values[i] = static_cast<float>(block->q[i]) * d;
  }
}

void decode_q4_0(const void* blocks, float* values, std::int64_t count) {
  const auto* block = static_cast<const BlockQ4_0*>(blocks);
  for (const float* end = values + count; values < end; values += kBlock, ++block) {
    const float d = f32_from_f16(block->d);
    for (int i = 0; i < kHalfBlock; ++i) values[i] = static_cast<float>((block->q[i] & 15) - 8) * d;
    for (int i = 0; i < kHalfBlock; ++i) values[i + kHalfBlock] = static_cast<float>((block->q[i] >> 4) - 8) * d;
  }
}

void decode_q4_1(const void* blocks, float* values, std::int64_t count) {
  const auto* block = static_cast<const BlockQ4_1*>(blocks);
  for (const float* end = values + count; values < end; values += kBlock, ++block) {
    const float d = f32_from_f16(block->d), m = f32_from_f16(block->m);
    for (int i = 0; i < kHalfBlock; ++i) values[i] = static_cast<float>(block->q[i] & 15) * d + m;
    for (int i = 0; i < kHalfBlock; ++i) values[i + kHalfBlock] = static_cast<float>(block->q[i] >> 4) * d + m;
  }
}

void decode_q5_0(const void* blocks, float* values, std::int64_t count) {
  const auto* block = static_cast<const BlockQ5_0*>(blocks);
  for (const float* end = values + count; values < end; values += kBlock, ++block) {
    std::uint8_t q[kBlock];
    five_bit_numbers(*block, q);
    const float d = f32_from_f16(block->d);
    for (int i = 0; i < kBlock; ++i) values[i] = static_cast<float>(q[i] - 16) * d;
  }
}

void decode_q5_1(const void* blocks, float* values, std::int64_t count) {
  const auto* block = static_cast<const BlockQ5_1*>(blocks);
  for (const float* end = values + count; values < end; values += kBlock, ++block) {
    std::uint8_t q[kBlock];
    five_bit_numbers(*block, q);
    const float d = f32_from_f16(block->d), m = f32_from_f16(block->m);
    for (int i = 0; i < kBlock; ++i) values[i] = static_cast<float>(q[i]) * d + m;
  }
}

void decode_q4_k(const void* blocks, float* values, std::int64_t count) {
  const auto* block = static_cast<const BlockQ4_K*>(blocks);
  for (const float* end = values + count; values < end; values += kSuperBlock, ++block) {
    const float d = f32_from_f16(block->d), dmin = f32_from_f16(block->dmin);
    for (int j = 0; j < kSuperBlock / kBlock; ++j) {
      const ScaleAndMinimum packed = unpack_scale(block->scales, j);
      const float scale = d * static_cast<float>(packed.scale), minimum = dmin * static_cast<float>(packed.minimum);
      const std::uint8_t* q = block->q + j / 2 * kBlock;
      const int shift = j % 2 * 4;
      for (int i = 0; i < kBlock; ++i) values[j * kBlock + i] = scale * static_cast<float>(q[i] >> shift & 15) - minimum;
    }
  }
}

void decode_q5_k(const void* blocks, float* values, std::int64_t count) {
  const auto* block = static_cast<const BlockQ5_K*>(blocks);
  for (const float* end = values + count; values < end; values += kSuperBlock, ++block) {
    const float d = f32_from_f16(block->d), dmin = f32_from_f16(block->dmin);
    for (int j = 0; j < kSuperBlock / kBlock; ++j) {
      const ScaleAndMinimum packed = unpack_scale(block->scales, j);
      const float scale = d * static_cast<float>(packed.scale), minimum = dmin * static_cast<float>(packed.minimum);
      const std::uint8_t* q = block->q + j / 2 * kBlock;
      const int shift = j % 2 * 4;
      for (int i = 0; i < kBlock; ++i) {
        const int level = (q[i] >> shift & 15) + (block->high[i] >> j & 1) * 16;
        values[j * kBlock + i] = scale * static_cast<float>(level) - minimum;
      }
    }
  }
}

void decode_q6_k(const void* blocks, float* values, std::int64_t count) {
  constexpr int kSixteen = 16;  // values that share a scale
  const auto* block = static_cast<const BlockQ6_K*>(blocks);
  for (const float* end = values + count; values < end; values += kSuperBlock, ++block) {
    const float d = f32_from_f16(block->d);
    for (int j = 0; j < kSuperBlock / kSixteen; ++j) {
      const int half = j / 8, quarter = j % 8 / 2, offset = j % 2 * kSixteen;  // value 128 half + 32 quarter + offset + i
      const std::uint8_t* low = block->low + half * 64 + quarter % 2 * 32 + offset;
      const std::uint8_t* high = block->high + half * 32 + offset;
      const float scale = d * static_cast<float>(block->scales[j]);
      for (int i = 0; i < kSixteen; ++i) {
        const int level = (low[i] >> (quarter / 2 * 4) & 15) | (high[i] >> (quarter * 2) & 3) << 4;
        values[j * kSixteen + i] = scale * static_cast<float>(level - 32);
      }
    }
  }
}

}  // namespace puna
