// SPDX-License-Identifier: Apache-2.0
// Shares the work out. A unit is a tile of rows of one sequence with one key/value head; units in order are
// cut into as many pieces of equal cost as there are threads.
#include <algorithm>

#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/kv_pages.h"

namespace puna {
namespace {

// Query rows in a tile: enough that unpacking a page is little beside the products, few enough that queries and outputs stay in L2.
constexpr std::int64_t kTileRows = 128;
// What reading and unpacking a page costs, in query rows.
constexpr std::int64_t kPageCost = 16;

struct TileShape {
  std::int64_t tokens;  // in a tile, but the last of a sequence
  std::int64_t shared;  // H / G

  std::int64_t tiles(const BatchSequence& sequence) const { return (sequence.rows + tokens - 1) / tokens; }
  std::int64_t tokens_of(const BatchSequence& sequence, std::int64_t tile) const {
    return std::min(tokens, sequence.rows - tile * tokens);
  }
  std::int64_t cost(const BatchSequence& sequence, std::int64_t tile) const {
    const std::int64_t count = tokens_of(sequence, tile);
    const std::int64_t pages = (sequence.first_position + tile * tokens + count - 1) / kPagePositions + 1;
    return pages * (count * shared + kPageCost);
  }
};

}  // namespace

namespace cpu {

void attention_forward(Device& device, const KvLayer& layer, const KvBatch& batch, const AttentionQuery& query) {
  const std::span<const BatchSequence> sequences = batch.sequences;
  check_kv(layer, sequences, "attention");
  const std::int64_t width = layer.head_width, groups = layer.kv_heads, page_bytes = kv_page_bytes(layer.format, width);
  const TileShape shape = {std::max<std::int64_t>(1, kTileRows * groups / query.heads), query.heads / groups};
  std::int64_t total = 0;
  for (const BatchSequence& sequence : sequences) {
    for (std::int64_t i = 0; i < shape.tiles(sequence); ++i) total += groups * shape.cost(sequence, i);
  }
  device.pool.run([&](int thread) {
    std::int64_t done = 0;  // cost of the units before this one
    for (const BatchSequence& sequence : sequences) {
      for (std::int64_t unit = 0; unit < groups * shape.tiles(sequence); ++unit) {
        const std::int64_t g = unit / shape.tiles(sequence), i = unit % shape.tiles(sequence), cost = shape.cost(sequence, i);
        const bool mine = (done + cost / 2) * device.pool.size() / total == thread;
        done += cost;
        if (!mine) continue;
        const std::int64_t row = sequence.first_row + i * shape.tokens, head = g * shape.shared;
        const QueryTile queries = {width,
                                   shape.shared,
                                   shape.tokens_of(sequence, i),
                                   query.q + row * query.stride + head * width,
                                   query.stride,
                                   query.out + (row * query.heads + head) * width,
                                   query.heads * width};
        attend_tile({queries, layer.format, sequence.first_position + i * shape.tokens, sequence.pages, layer.keys + g * page_bytes,
                     layer.values + g * page_bytes, groups * page_bytes});
      }
    }
  });
}

}  // namespace cpu
}  // namespace puna
