// SPDX-License-Identifier: Apache-2.0
// Attention of one tile of query rows over a sequence's pages: a page's keys and values are turned to F32 once for all rows.
// One row of decoding takes the same path as a tile of a prompt, so both give equal bits.
#include "kernels/cpu/attention_tile.h"

#include <algorithm>

#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attend_tile.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/attention_scratch.h"
#include "kernels/cpu/kv_page_inl.h"
#include "kernels/cpu/online_softmax_inl.h"

HWY_BEFORE_NAMESPACE();
namespace puna {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, 16>;

void attend(const AttentionTile& tile) {
  const D d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t rows = tile.tokens * tile.shared, last_position = tile.first_position + tile.tokens - 1;
  AttentionScratch& scratch = attention_scratch(rows, tile.head_width, (tile.head_width + lanes - 1) / lanes * lanes);
  load_queries(tile, scratch);
  for (std::int64_t page = 0; page <= last_position / kPagePositions; ++page) {
    const std::int64_t start = page * kPagePositions;
    const KeyBlock block = unpack_page(d, tile, scratch, page, std::min(kPagePositions, last_position + 1 - start));
    if (start + kPagePositions <= last_position) prefetch_page(tile, page + 1);
    // Tokens before this page do not see it.
    const std::int64_t first = std::max<std::int64_t>(0, start - tile.first_position) * tile.shared;
    const auto visible = [&](std::int64_t m) {
      return std::min(kPagePositions, tile.first_position + m / tile.shared + 1 - start);
    };
    by_row_blocks(first, rows,
                  [&](std::int64_t begin, std::int64_t end) { attend_block(tile, scratch, block, begin, end, visible); });
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
