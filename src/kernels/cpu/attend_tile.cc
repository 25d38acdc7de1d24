// SPDX-License-Identifier: Apache-2.0
// Attention of one tile of query rows over a sequence's pages, with online softmax (Milakov & Gimelshein, 2018; Dao, 2023):
// a page's keys and values are turned to F32 once for all rows of the tile; up to kRowBlock rows at a time then take
//   S = Q K^T,  m' = max(m, max S),  P = exp(S - m'),  l = exp(m - m') l + sum P,  O = exp(m - m') O + P V.
// One row of decoding takes the same path as a tile of a prompt, so both give equal bits.
#include "kernels/cpu/attention_tile.h"

#include <hwy/aligned_allocator.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/targets.h"
#include "tensor/blocks.h"
#include "tensor/half.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attend_tile.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/attention_scratch.h"
#include "kernels/cpu/exp_inl.h"
#include "kernels/cpu/kv_page_inl.h"

HWY_BEFORE_NAMESPACE();
namespace puna {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, 16>;
using V = hn::Vec<D>;

// Accumulators of the products: 6 × 4 where there are 32 registers, else 6 × 2, and each vector of B is used 6 times.
constexpr int kRowBlock = 6;
constexpr int kColumnVectors = HWY_MAX_BYTES >= 64 || HWY_ARCH_ARM ? 4 : 2;

// C [rows, columns] = factor[row] C + A [rows, depth] B [depth, columns]; without factors, C = A B.
struct RowProduct {
  const float* a;
  std::int64_t a_stride;
  const float* b;
  std::int64_t b_stride;
  std::int64_t depth;
  float* c;
  std::int64_t c_stride;
  const float* factors;
};

template <int kRows, int kVectors>
HWY_INLINE void multiply_columns(D d, const RowProduct& p, std::int64_t column) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  V sums[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = p.factors == nullptr ? hn::Zero(d)
                                        : hn::Mul(hn::Load(d, p.c + r * p.c_stride + column + v * lanes), hn::Set(d, p.factors[r]));
    }
  }
  const float* b = p.b + column;
  for (std::int64_t k = 0; k < p.depth; ++k, b += p.b_stride) {
    V row[kVectors];
    for (int v = 0; v < kVectors; ++v) row[v] = hn::LoadU(d, b + v * lanes);
    for (int r = 0; r < kRows; ++r) {
      const V a = hn::Set(d, p.a[r * p.a_stride + k]);
      for (int v = 0; v < kVectors; ++v) sums[r][v] = hn::MulAdd(a, row[v], sums[r][v]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) hn::Store(sums[r][v], d, p.c + r * p.c_stride + column + v * lanes);
  }
}

// columns is a multiple of the lanes.
template <int kRows>
void multiply_rows(const RowProduct& p, std::int64_t columns) {
  const D d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t column = 0;
  for (; column + kColumnVectors * lanes <= columns; column += kColumnVectors * lanes) {
    multiply_columns<kRows, kColumnVectors>(d, p, column);
  }
  for (; column < columns; column += lanes) multiply_columns<kRows, 1>(d, p, column);
}

void multiply(std::int64_t rows, const RowProduct& p, std::int64_t columns) {
  switch (rows) {
    case 1:
      return multiply_rows<1>(p, columns);
    case 2:
      return multiply_rows<2>(p, columns);
    case 3:
      return multiply_rows<3>(p, columns);
    case 4:
      return multiply_rows<4>(p, columns);
    case 5:
      return multiply_rows<5>(p, columns);
    default:
      return multiply_rows<kRowBlock>(p, columns);
  }
}

// scores [kPagePositions] -> exp(scores - new maximum) in place; those from `visible` on are zero. Updates the row's maximum and
// its sum [lanes], and returns exp(old maximum - new maximum).
HWY_INLINE float soften_row(D d, float* scores, std::int64_t visible, float* maximum, float* sum) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::fill(scores + visible, scores + kPagePositions, -std::numeric_limits<float>::infinity());
  V best = hn::Load(d, scores);
  for (std::int64_t c = lanes; c < kPagePositions; c += lanes) best = hn::Max(best, hn::Load(d, scores + c));
  const V old_maximum = hn::Set(d, *maximum);
  const V new_maximum = hn::Max(old_maximum, hn::MaxOfLanes(d, best));
  const V factor = exp_of_negative(d, hn::Sub(old_maximum, new_maximum));
  V total = hn::Mul(hn::Load(d, sum), factor);
  for (std::int64_t c = 0; c < kPagePositions; c += lanes) {
    const V p = exp_of_negative(d, hn::Sub(hn::Load(d, scores + c), new_maximum));
    hn::Store(p, d, scores + c);
    total = hn::Add(total, p);
  }
  hn::Store(total, d, sum);
  *maximum = hn::GetLane(new_maximum);
  return hn::GetLane(factor);
}

// Rows of queries [M, E], scaled by 1 / sqrt(E), so that products are scores.
void load_queries(const AttentionTile& tile, AttentionScratch& scratch) {
  const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(tile.head_width)));
  const std::int64_t token_width = tile.shared * tile.head_width;
  for (std::int64_t t = 0; t < tile.tokens; ++t) {
    const float* from = tile.q + t * tile.q_stride;
    float* to = scratch.queries + t * token_width;
    for (std::int64_t i = 0; i < token_width; ++i) to[i] = from[i] * scale;
  }
}

// out = O / l
void store_outputs(const AttentionTile& tile, const AttentionScratch& scratch) {
  const D d;
  for (std::int64_t m = 0; m < tile.tokens * tile.shared; ++m) {
    const float inverse = 1.0f / hn::GetLane(hn::SumOfLanes(d, hn::Load(d, scratch.sums + m * AttentionScratch::kLanes)));
    const float* from = scratch.outputs + m * scratch.padded_width;
    float* to = tile.out + m / tile.shared * tile.out_stride + m % tile.shared * tile.head_width;
    for (std::int64_t e = 0; e < tile.head_width; ++e) to[e] = from[e] * inverse;
  }
}

// Rows [begin, end) of the tile, at most kRowBlock, meet page `page` [E, 64] keys, [64, padded E] values.
void attend_page(const AttentionTile& tile, AttentionScratch& scratch, const KvPage& kv, std::int64_t page, std::int64_t begin,
                 std::int64_t end) {
  const D d;
  HWY_ALIGN float scores[kRowBlock * kPagePositions];
  float factors[kRowBlock];
  const std::int64_t rows = end - begin, width = tile.head_width, padded = scratch.padded_width;
  multiply(rows, {scratch.queries + begin * width, width, kv.keys, kPagePositions, width, scores, kPagePositions, nullptr},
           kPagePositions);
  std::int64_t visible = 0;
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t m = begin + r, position = tile.first_position + m / tile.shared;
    visible = std::min(kPagePositions, position + 1 - page * kPagePositions);  // the last row sees the most
    factors[r] =
        soften_row(d, scores + r * kPagePositions, visible, scratch.maxima + m, scratch.sums + m * AttentionScratch::kLanes);
  }
  multiply(rows, {scores, kPagePositions, kv.values, padded, visible, scratch.outputs + begin * padded, padded, factors}, padded);
}

void attend(const AttentionTile& tile) {
  const D d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t rows = tile.tokens * tile.shared, last_position = tile.first_position + tile.tokens - 1;
  AttentionScratch& scratch = attention_scratch(rows, tile.head_width, (tile.head_width + lanes - 1) / lanes * lanes);
  load_queries(tile, scratch);
  for (std::int64_t page = 0; page <= last_position / kPagePositions; ++page) {
    const std::int64_t start = page * kPagePositions;
    const KvPage kv = unpack_page(d, tile, scratch, page, std::min(kPagePositions, last_position + 1 - start));
    if (start + kPagePositions <= last_position) prefetch_page(tile, page + 1);
    // Tokens before this page do not see it. The others are cut into blocks as equal as can be.
    const std::int64_t first = std::max<std::int64_t>(0, start - tile.first_position) * tile.shared;
    const std::int64_t count = rows - first, blocks = (count + kRowBlock - 1) / kRowBlock;
    for (std::int64_t i = 0; i < blocks; ++i) {
      attend_page(tile, scratch, kv, page, first + count * i / blocks, first + count * (i + 1) / blocks);
    }
  }
  store_outputs(tile, scratch);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace puna
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace puna {
HWY_EXPORT(attend);

void attend_tile(const AttentionTile& tile) { HWY_DYNAMIC_DISPATCH(attend)(tile); }

}  // namespace puna
#endif
