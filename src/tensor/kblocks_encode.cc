// SPDX-License-Identifier: Apache-2.0
// F32 to the K blocks. Sub-block scales come from tensor/scale_search.h; they are then rounded to 6 bits (8 bits in Q6_K) of the
// block's scale, and every value is quantized again with the rounded scale. Where a rounded scale is 0 the search's levels stay.
#include <cmath>

#include "tensor/blocks.h"
#include "tensor/codecs.h"
#include "tensor/half.h"
#include "tensor/kscales.h"
#include "tensor/scale_search.h"

namespace puna {
namespace {

constexpr int kSubBlocks = kSuperBlock / kBlock;  // of Q4_K and Q5_K
constexpr int kSixteen = 16;                      // values that share a scale in Q6_K
constexpr AffineSearch kSearchQ4{15, -1.0f, 0.1f, 20};
constexpr AffineSearch kSearchQ5{31, -0.5f, 0.1f, 15};

// N values each of four neighbouring sub-blocks -> value i of all four side by side, and back.
template <int N>
void gather(const float* values, Lanes (&columns)[N]) {
  for (int i = 0; i < N; ++i) columns[i] = Lanes{values[i], values[N + i], values[2 * N + i], values[3 * N + i]};
}

template <int N>
void scatter(const Lanes (&columns)[N], std::uint8_t* levels) {
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int i = 0; i < N; ++i) levels[lane * N + i] = static_cast<std::uint8_t>(columns[i][lane]);
  }
}

// Large values count for more, small ones never for nothing: the root mean square of the sub-block plus |x|.
void weigh(const Lanes (&x)[kBlock], Lanes (&weights)[kBlock]) {
  Lanes squares = x[0] * 0.0f;
  for (const Lanes& value : x) squares += value * value;
  Lanes mean = squares / 32.0f;
  for (int lane = 0; lane < kLanes; ++lane) mean[lane] = std::sqrt(mean[lane]);
  for (int i = 0; i < kBlock; ++i) weights[i] = mean + (x[i] < 0.0f ? -x[i] : x[i]);
}

float largest_of(const float* values, int count) {
  float largest = 0.0f;
  for (int j = 0; j < count; ++j) largest = values[j] > largest ? values[j] : largest;
  return largest;
}

// 0..63; the infinity of a block of subnormals becomes 0.
std::uint8_t six_bits(float value) {
  const float rounded = value < kRoundable ? round_even(value) : 0.0f;
  return static_cast<std::uint8_t>(rounded > 0.0f ? (rounded < 63.0f ? rounded : 63.0f) : 0.0f);
}

// values [N] -> levels [N] in low..high, stored from 0
template <int N>
void quantize(const float* values, float minimum, float scale, int low, int high, std::uint8_t* levels) {
  const float bottom = static_cast<float>(low), top = static_cast<float>(high);
  for (int i = 0; i < N; ++i) {
    const float level = round_even((values[i] + minimum) / scale);
    const float raised = level > bottom ? level : bottom;
    levels[i] = static_cast<std::uint8_t>(static_cast<int>(raised < top ? raised : top) - low);
  }
}

// What Q4_K and Q5_K have in common: d, dmin and the packed scales of `block`; levels [256].
template <typename Block>
void encode_affine(const AffineSearch& search, const float* values, Block& block, std::uint8_t (&levels)[kSuperBlock]) {
  float scales[kSubBlocks], minima[kSubBlocks];
  for (int j = 0; j < kSubBlocks; j += kLanes) {
    Lanes x[kBlock], weights[kBlock], columns[kBlock];
    gather(values + j * kBlock, x);
    weigh(x, weights);
    const AffineScale found = search_affine(search, x, weights, columns);
    scatter(columns, levels + j * kBlock);
    for (int lane = 0; lane < kLanes; ++lane) {
      scales[j + lane] = found.scale[lane];
      minima[j + lane] = found.minimum[lane];
    }
  }

  const float max_scale = largest_of(scales, kSubBlocks), max_minimum = largest_of(minima, kSubBlocks);
  const float inverse_scale = max_scale > 0.0f ? 63.0f / max_scale : 0.0f;
  const float inverse_minimum = max_minimum > 0.0f ? 63.0f / max_minimum : 0.0f;
  ScaleAndMinimum pairs[kSubBlocks];
  for (int j = 0; j < kSubBlocks; ++j) pairs[j] = {six_bits(inverse_scale * scales[j]), six_bits(inverse_minimum * minima[j])};
  pack_scales(pairs, block.scales);
  block.d = f16_from_f32(max_scale / 63.0f);
  block.dmin = f16_from_f32(max_minimum / 63.0f);

  for (int j = 0; j < kSubBlocks; ++j) {
    const float scale = f32_from_f16(block.d) * static_cast<float>(pairs[j].scale);
    const float minimum = f32_from_f16(block.dmin) * static_cast<float>(pairs[j].minimum);
    if (scale != 0.0f) quantize<kBlock>(values + j * kBlock, minimum, scale, 0, search.top, levels + j * kBlock);
  }
}

// levels [256] -> nibbles: sub-blocks 2c and 2c + 1 share 32 bytes
void pack_nibbles(const std::uint8_t (&levels)[kSuperBlock], std::uint8_t (&q)[128]) {
  for (int c = 0; c < 4; ++c) {
    const std::uint8_t* pair = levels + c * 64;
    for (int i = 0; i < kBlock; ++i) q[c * kBlock + i] = static_cast<std::uint8_t>((pair[i] & 15) | (pair[i + kBlock] & 15) << 4);
  }
}

void pack_six_bits(const std::uint8_t (&levels)[kSuperBlock], BlockQ6_K& block) {
  for (int half = 0; half < 2; ++half) {
    const std::uint8_t* level = levels + half * 128;
    for (int i = 0; i < 32; ++i) {
      const unsigned a = level[i], b = level[i + 32], c = level[i + 64], d = level[i + 96];
      block.low[half * 64 + i] = static_cast<std::uint8_t>((a & 15) | (c & 15) << 4);
      block.low[half * 64 + 32 + i] = static_cast<std::uint8_t>((b & 15) | (d & 15) << 4);
      block.high[half * 32 + i] = static_cast<std::uint8_t>(a >> 4 | b >> 4 << 2 | c >> 4 << 4 | d >> 4 << 6);
    }
  }
}

// The scale of largest magnitude, with its sign; 0 where all are (nearly) zero.
float signed_extreme(const float* scales, int count) {
  float extreme = 0.0f;
  for (int j = 0; j < count; ++j) extreme = std::fabs(scales[j]) > std::fabs(extreme) ? scales[j] : extreme;
  return std::fabs(extreme) < 1e-15f ? 0.0f : extreme;
}

void encode_block(const float* values, BlockQ6_K& block) {
  constexpr int kScales = kSuperBlock / kSixteen;
  float scales[kScales];
  std::uint8_t levels[kSuperBlock];
  for (int j = 0; j < kScales; j += kLanes) {
    Lanes x[kSixteen], columns[kSixteen];
    gather(values + j * kSixteen, x);
    const Lanes found = search_symmetric(32, x, columns);
    scatter(columns, levels + j * kSixteen);
    for (int lane = 0; lane < kLanes; ++lane) scales[j + lane] = found[lane];
  }
  const float extreme = signed_extreme(scales, kScales);
  if (extreme == 0.0f) {
    block = {};
    return;
  }
  const float inverse = -128.0f / extreme;  // the largest scale becomes -128
  block.d = f16_from_f32(1.0f / inverse);
  for (int j = 0; j < kScales; ++j) {
    const float rounded = round_even(inverse * scales[j]);
    block.scales[j] = static_cast<std::int8_t>(rounded > -128.0f ? (rounded < 127.0f ? rounded : 127.0f) : -128.0f);
    const float scale = f32_from_f16(block.d) * static_cast<float>(block.scales[j]);
    if (scale != 0.0f) quantize<kSixteen>(values + j * kSixteen, 0.0f, scale, -32, 31, levels + j * kSixteen);
  }
  pack_six_bits(levels, block);
}

}  // namespace

void encode_q4_k(const float* values, void* blocks, std::int64_t count) {
  auto* block = static_cast<BlockQ4_K*>(blocks);
  for (const float* end = values + count; values < end; values += kSuperBlock, ++block) {
    std::uint8_t levels[kSuperBlock];
    encode_affine(kSearchQ4, values, *block, levels);
    pack_nibbles(levels, block->q);
  }
}

void encode_q5_k(const float* values, void* blocks, std::int64_t count) {
  auto* block = static_cast<BlockQ5_K*>(blocks);
  for (const float* end = values + count; values < end; values += kSuperBlock, ++block) {
    std::uint8_t levels[kSuperBlock];
    encode_affine(kSearchQ5, values, *block, levels);
    pack_nibbles(levels, block->q);
    for (int i = 0; i < kBlock; ++i) {
      unsigned bits = 0;
      for (int j = 0; j < kSubBlocks; ++j) bits |= static_cast<unsigned>(levels[j * kBlock + i] >> 4) << j;
      block->high[i] = static_cast<std::uint8_t>(bits);
    }
  }
}

void encode_q6_k(const float* values, void* blocks, std::int64_t count) {
  auto* block = static_cast<BlockQ6_K*>(blocks);
  for (const float* end = values + count; values < end; values += kSuperBlock, ++block) encode_block(values, *block);
}

}  // namespace puna
