// SPDX-License-Identifier: Apache-2.0
// F32 to the plain blocks of 32 values, bit for bit as llama.cpp writes them: the scale comes from the extreme value, each value is
// multiplied by the reciprocal of the unrounded scale. Where that reciprocal is not finite (a block of subnormals) the level is 0,
// which is also where a conversion of infinity ends up on x86.
#include <cfloat>
#include <cmath>
#include <cstring>

#include "tensor/blocks.h"
#include "tensor/codecs.h"
#include "tensor/half.h"

namespace puna {
namespace {

float reciprocal(float d) { return d != 0.0f ? 1.0f / d : 0.0f; }

// The whole part of a level, at most `top`; 0 for what is no level at all (NaN, infinity).
std::uint8_t level_of(float value, int top) {
  const bool valid = value >= 0.0f && value < 128.0f;
  const int level = static_cast<int>(valid ? value : 0.0f);
  return static_cast<std::uint8_t>(level < top ? level : top);
}

// Halves away from zero, as roundf; 0 for NaN and infinity.
std::int8_t round_to_int8(float value) {
  const bool valid = std::fabs(value) < 128.0f;
  const float x = valid ? value : 0.0f;
  const int whole = static_cast<int>(x);
  const float rest = x - static_cast<float>(whole);
  return static_cast<std::int8_t>(whole + (rest >= 0.5f) - (rest <= -0.5f));
}

// The value of largest magnitude, with its sign; the first of equals.
float signed_extreme(const float* values) {
  float largest = 0.0f, extreme = 0.0f;
  for (int i = 0; i < kBlock; ++i) {
    const float magnitude = std::fabs(values[i]);
    if (largest < magnitude) {
      largest = magnitude;
      extreme = values[i];
    }
  }
  return extreme;
}

struct Range {
  float low, high;
};

Range range_of(const float* values) {
  Range range{FLT_MAX, -FLT_MAX};
  for (int i = 0; i < kBlock; ++i) {
    range.low = values[i] < range.low ? values[i] : range.low;
    range.high = values[i] > range.high ? values[i] : range.high;
  }
  return range;
}

// levels [32] -> 16 bytes, the first half in the low nibbles
void pack_nibbles(const std::uint8_t (&levels)[kBlock], std::uint8_t (&q)[kHalfBlock]) {
  for (int i = 0; i < kHalfBlock; ++i) q[i] = static_cast<std::uint8_t>((levels[i] & 15) | (levels[i + kHalfBlock] & 15) << 4);
}

void pack_fifth_bits(const std::uint8_t (&levels)[kBlock], std::uint8_t (&high)[4]) {
  std::uint32_t word = 0;
  for (int i = 0; i < kBlock; ++i) word |= static_cast<std::uint32_t>(levels[i] >> 4) << i;
  std::memcpy(high, &word, sizeof(word));
}

// value = d (q - middle): the extreme value lands on q = 0, whichever its sign. Fills levels, returns d.
float symmetric_levels(const float* values, int middle, std::uint8_t (&levels)[kBlock]) {
  const float d = signed_extreme(values) / static_cast<float>(-middle);
  const float inverse = reciprocal(d), shift = static_cast<float>(middle) + 0.5f;
  for (int i = 0; i < kBlock; ++i) levels[i] = level_of(values[i] * inverse + shift, 2 * middle - 1);
  return d;
}

struct Affine {
  float d, m;
};

// value = d q + m with q in 0..top. Fills levels.
Affine affine_levels(const float* values, int top, std::uint8_t (&levels)[kBlock]) {
  const Range range = range_of(values);
  const float d = (range.high - range.low) / static_cast<float>(top);
  const float inverse = reciprocal(d);
  for (int i = 0; i < kBlock; ++i) levels[i] = level_of((values[i] - range.low) * inverse + 0.5f, top);
  return {d, range.low};
}

}  // namespace

void encode_q8_0(const float* values, void* blocks, std::int64_t count) {
  auto* block = static_cast<BlockQ8_0*>(blocks);
  for (const float* end = values + count; values < end; values += kBlock, ++block) {
    const float d = std::fabs(signed_extreme(values)) / 127.0f;
    const float inverse = reciprocal(d);
    block->d = f16_from_f32(d);
    for (int i = 0; i < kBlock; ++i) block->q[i] = round_to_int8(values[i] * inverse);
  }
}

void encode_q4_0(const float* values, void* blocks, std::int64_t count) {
  auto* block = static_cast<BlockQ4_0*>(blocks);
  for (const float* end = values + count; values < end; values += kBlock, ++block) {
    std::uint8_t levels[kBlock];
    block->d = f16_from_f32(symmetric_levels(values, 8, levels));
    pack_nibbles(levels, block->q);
  }
}

void encode_q4_1(const float* values, void* blocks, std::int64_t count) {
  auto* block = static_cast<BlockQ4_1*>(blocks);
  for (const float* end = values + count; values < end; values += kBlock, ++block) {
    std::uint8_t levels[kBlock];
    const Affine affine = affine_levels(values, 15, levels);
    block->d = f16_from_f32(affine.d);
    block->m = f16_from_f32(affine.m);
    pack_nibbles(levels, block->q);
  }
}

void encode_q5_0(const float* values, void* blocks, std::int64_t count) {
  auto* block = static_cast<BlockQ5_0*>(blocks);
  for (const float* end = values + count; values < end; values += kBlock, ++block) {
    std::uint8_t levels[kBlock];
    block->d = f16_from_f32(symmetric_levels(values, 16, levels));
    pack_fifth_bits(levels, block->high);
    pack_nibbles(levels, block->q);
  }
}

void encode_q5_1(const float* values, void* blocks, std::int64_t count) {
  auto* block = static_cast<BlockQ5_1*>(blocks);
  for (const float* end = values + count; values < end; values += kBlock, ++block) {
    std::uint8_t levels[kBlock];
    const Affine affine = affine_levels(values, 31, levels);
    block->d = f16_from_f32(affine.d);
    block->m = f16_from_f32(affine.m);
    pack_fifth_bits(levels, block->high);
    pack_nibbles(levels, block->q);
  }
}

}  // namespace puna
