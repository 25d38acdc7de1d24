// SPDX-License-Identifier: Apache-2.0
// A tile of packed attention: its query rows meet the keys of the prefix, then those of their own segment, 64 at a time.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/packed_attention_units.h"
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/packed_attention_forward.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/online_softmax_inl.h"
#include "kernels/cpu/packed_rows_inl.h"

HWY_BEFORE_NAMESPACE();
namespace puna {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, 16>;

constexpr std::int64_t kBlockKeys = kPagePositions;

// Rows [from, tokens * shared) of the tile meet `count` keys from row `key_row` of the batch on.
template <class Visible>
void meet_keys(const PackedTile& tile, const QueryTile& queries, AttentionScratch& scratch, std::int64_t key_row,
               std::int64_t count, std::int64_t from, const Visible& visible) {
  const PackedRows& rows = *tile.rows;
  const std::int64_t at = key_row * rows.stride + tile.group * rows.head_width;
  transpose(rows.k + at, rows.stride, count, rows.head_width, scratch.keys, kBlockKeys);
  const RowView values = padded_rows({rows.v + at, rows.stride}, count, rows.head_width, scratch.padded_width, scratch.values);
  const KeyBlock block = {scratch.keys, values.values, values.stride};
  by_row_blocks(from, queries.tokens * queries.shared,
                [&](std::int64_t begin, std::int64_t end) { attend_block(queries, scratch, block, begin, end, visible); });
}

void attend(const PackedTile& tile) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(D()));
  const PackedRows& rows = *tile.rows;
  const PackedSegment& segment = tile.segment;
  const std::int64_t width = rows.head_width, shared = rows.heads / rows.kv_heads, head = tile.group * shared;
  const std::int64_t row = segment.first_row + tile.first;  // of the batch
  const QueryTile queries = {width,
                             shared,
                             tile.tokens,
                             rows.q + row * rows.stride + head * width,
                             rows.stride,
                             tile.out + (row * rows.heads + head) * width,
                             rows.heads * width};
  AttentionScratch& scratch = attention_scratch(tile.tokens * shared, width, (width + lanes - 1) / lanes * lanes);
  load_queries(queries, scratch);
  for (std::int64_t key = 0; key < segment.prefix_rows; key += kBlockKeys) {
    const std::int64_t count = std::min(kBlockKeys, segment.prefix_rows - key);
    meet_keys(tile, queries, scratch, segment.prefix_row + key, count, 0, [=](std::int64_t) { return count; });
  }
  const std::int64_t last = tile.first + tile.tokens;
  for (std::int64_t key = 0; key < last; key += kBlockKeys) {
    const std::int64_t first_token = std::max<std::int64_t>(0, key - tile.first);  // earlier ones do not see this block
    meet_keys(tile, queries, scratch, segment.first_row + key, std::min(kBlockKeys, last - key), first_token * shared,
              [&](std::int64_t m) { return std::min(kBlockKeys, tile.first + m / shared + 1 - key); });
  }
  store_outputs(queries, scratch);
  for (std::int64_t m = 0; m < tile.tokens * shared; ++m) {
    const float sum = hn::GetLane(hn::SumOfLanes(D(), hn::Load(D(), scratch.sums + m * AttentionScratch::kLanes)));
    tile.log_sum_exp[(row + m / shared) * rows.heads + head + m % shared] = scratch.maxima[m] + std::log(sum);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace puna
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace puna {
HWY_EXPORT(attend);

void attend_packed_tile(const PackedTile& tile) { HWY_DYNAMIC_DISPATCH(attend)(tile); }

}  // namespace puna
#endif
