// SPDX-License-Identifier: Apache-2.0
// Attention of a tile of query rows with one block of keys after another, by online softmax (Milakov & Gimelshein, 2018; Dao,
// 2023): up to kRowBlock rows at a time take
//   S = Q K^T,  m' = max(m, max S),  P = exp(S - m'),  l = exp(m - m') l + sum P,  O = exp(m - m') O + P V.
// Compiled once per instruction set: included inside each target's namespace.
#if defined(PUNA_ONLINE_SOFTMAX_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef PUNA_ONLINE_SOFTMAX_INL
#undef PUNA_ONLINE_SOFTMAX_INL
#else
#define PUNA_ONLINE_SOFTMAX_INL
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/cpu/attention_scratch.h"
#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/exp_inl.h"
#include "kernels/cpu/row_product_inl.h"

HWY_BEFORE_NAMESPACE();
namespace puna {
namespace HWY_NAMESPACE {

// scores [kPagePositions] -> exp(scores - new maximum) in place; those from `visible` on are zero. Updates the row's maximum and
// its sum [lanes], and returns exp(old maximum - new maximum).
template <class D>
HWY_INLINE float soften_row(D d, float* scores, std::int64_t visible, float* maximum, float* sum) {
  namespace hn = hwy::HWY_NAMESPACE;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::fill(scores + visible, scores + kPagePositions, -std::numeric_limits<float>::infinity());
  auto best = hn::Load(d, scores);
  for (std::int64_t c = lanes; c < kPagePositions; c += lanes) best = hn::Max(best, hn::Load(d, scores + c));
  const auto old_maximum = hn::Set(d, *maximum);
  const auto new_maximum = hn::Max(old_maximum, hn::MaxOfLanes(d, best));
  const auto factor = exp_of_negative(d, hn::Sub(old_maximum, new_maximum));
  auto total = hn::Mul(hn::Load(d, sum), factor);
  for (std::int64_t c = 0; c < kPagePositions; c += lanes) {
    const auto p = exp_of_negative(d, hn::Sub(hn::Load(d, scores + c), new_maximum));
    hn::Store(p, d, scores + c);
    total = hn::Add(total, p);
  }
  hn::Store(total, d, sum);
  *maximum = hn::GetLane(new_maximum);
  return hn::GetLane(factor);
}

// Rows of queries [M, E], scaled by 1 / sqrt(E), so that products are scores.
inline void load_queries(const QueryTile& tile, AttentionScratch& scratch) {
  const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(tile.head_width)));
  const std::int64_t token_width = tile.shared * tile.head_width;
  for (std::int64_t t = 0; t < tile.tokens; ++t) {
    const float* from = tile.q + t * tile.q_stride;
    float* to = scratch.queries + t * token_width;
    for (std::int64_t i = 0; i < token_width; ++i) to[i] = from[i] * scale;
  }
}

// out = O / l
inline void store_outputs(const QueryTile& tile, const AttentionScratch& scratch) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::CappedTag<float, 16> d;
  for (std::int64_t m = 0; m < tile.tokens * tile.shared; ++m) {
    const float inverse = 1.0f / hn::GetLane(hn::SumOfLanes(d, hn::Load(d, scratch.sums + m * AttentionScratch::kLanes)));
    const float* from = scratch.outputs + m * scratch.padded_width;
    float* to = tile.out + m / tile.shared * tile.out_stride + m % tile.shared * tile.head_width;
    for (std::int64_t e = 0; e < tile.head_width; ++e) to[e] = from[e] * inverse;
  }
}

// Keys and values of kPagePositions positions, the last of which may be missing.
struct KeyBlock {
  const float* keys;    // [E, kPagePositions]
  const float* values;  // [kPagePositions, padded E], rows values_stride apart
  std::int64_t values_stride;
};

// Rows [begin, end) of the tile, at most kRowBlock, meet a block of keys; row m sees the first visible(m) of them, later rows more.
template <class Visible>
HWY_INLINE void attend_block(const QueryTile& tile, AttentionScratch& scratch, const KeyBlock& block, std::int64_t begin,
                             std::int64_t end, const Visible& visible) {
  const hwy::HWY_NAMESPACE::CappedTag<float, 16> d;
  HWY_ALIGN float scores[kRowBlock * kPagePositions];
  float factors[kRowBlock];
  const std::int64_t rows = end - begin, width = tile.head_width, padded = scratch.padded_width;
  const auto lanes = static_cast<std::int64_t>(hwy::HWY_NAMESPACE::Lanes(d));
  const std::int64_t seen = visible(end - 1);
  multiply(rows, {scratch.queries + begin * width, width, block.keys, kPagePositions, width, scores, kPagePositions, nullptr},
           (seen + lanes - 1) / lanes * lanes);
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t m = begin + r;
    factors[r] =
        soften_row(d, scores + r * kPagePositions, visible(m), scratch.maxima + m, scratch.sums + m * AttentionScratch::kLanes);
  }
  multiply(rows,
           {scores, kPagePositions, block.values, block.values_stride, seen, scratch.outputs + begin * padded, padded, factors},
           padded);
}

}  // namespace HWY_NAMESPACE
}  // namespace puna
HWY_AFTER_NAMESPACE();

#endif
