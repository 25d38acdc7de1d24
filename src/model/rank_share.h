// SPDX-License-Identifier: Apache-2.0
// A network split over the N ranks of a team (tensor parallelism: Shoeybi et al., "Megatron-LM", 2019, section 3). Rank r has
//   heads [H r / N, H (r + 1) / N) and as many of the G: rows of Wq, Wk and Wv, columns of Wo
//   [F r / N, F (r + 1) / N) of the feed-forward width, in whole blocks: rows of Wgate and Wup, columns of Wdown
//   [V r / N, V (r + 1) / N) of the vocabulary: rows of the output matrix
// and the embedding and the norms whole; of adapters (model/adapters.h) rows of B beside rows of a weight, and columns of A beside
// columns. What a layer adds to the residual stream is then a sum over the ranks, once behind
// attention and once behind the feed-forward network (model/block.h); logits lie side by side.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "model/checkpoint.h"

namespace puna {

struct Share {
  int rank = 0, ranks = 1;
  std::int64_t block = 1;  // of the feed-forward width: what no format splits
};

// Throws kUnsupported with the figures, and with the numbers of ranks that would do, where the network does not split: key/value
// heads that do not divide, blocks that would be cut, fewer blocks than ranks, fewer layers than stages (model/stages.h).
// Formats and shapes are read, no bytes. kNoStages: whoever asks has none, so they are not advised.
inline constexpr int kNoStages = 0;
void check_shares(const Checkpoint& checkpoint, int ranks, int stages = 1);
Share share_of_rank(const Checkpoint& checkpoint, int rank, int ranks);

// Rows or columns of a whole.
struct IndexRange {
  std::int64_t first, last;
  std::int64_t count() const { return last - first; }
};
// The rank's of the `count` rows or columns along which a role is split.
IndexRange part_of(std::int64_t count, WeightRole role, const Share& share);

// H, G and F are a rank's; all else is the network's.
ModelConfig config_of_share(const ModelConfig& config, const Share& share);
// The same of the rank that has most, whatever the formats: F is a bound.
ModelConfig config_of_largest_share(const ModelConfig& config, int ranks);
// The first row of the output matrix that is a rank's.
std::int64_t first_logit(const ModelConfig& config, int rank, int ranks);

// A rank's part of a weight: rows are seen where they lie; of columns only the shape is there, until copy_columns() gives them
// memory. The scales of FP8 rows are those of the rows.
Tensor share_of(const Tensor& whole, WeightRole role, const Share& share);
bool splits_columns(WeightRole role, const Share& share);
// A rank's columns of every row into `memory`, which has room for them.
Tensor copy_columns(const Tensor& whole, WeightRole role, const Share& share, std::span<std::byte> memory);

// The rank's adapters, as those of a weight: of columns of A only the shape is there, until copy_columns() gives them memory, which
// the result owns.
std::vector<LayerAdapters> share_of(std::span<const LayerAdapters> whole, const Share& share);
std::shared_ptr<void> copy_columns(std::span<const LayerAdapters> whole, const Share& share, std::span<LayerAdapters> part);
// Both, of adapters that a request may choose; `whole` itself for one rank.
std::shared_ptr<const AdapterSet> adapters_of_share(const std::shared_ptr<const AdapterSet>& whole, const Share& share);

// Every weight's share_of(), and the config; tied embeddings are tied no longer.
std::shared_ptr<Checkpoint> checkpoint_of_share(const Checkpoint& checkpoint, const Share& share);
// The same in the host's memory, columns copied; `checkpoint` itself for one rank.
std::shared_ptr<const Checkpoint> share_on_host(const std::shared_ptr<const Checkpoint>& checkpoint, const Share& share);
// Of all ranks.
std::vector<std::shared_ptr<const Checkpoint>> shares_on_host(const std::shared_ptr<const Checkpoint>& checkpoint, int ranks);
// Bytes of the weights, as the files have them, of the rank that has most.
std::int64_t largest_share_bytes(const Checkpoint& checkpoint, int ranks);
// What the copies take, over all ranks: of a checkpoint with its adapters, and of adapters that a request may choose.
std::int64_t copied_column_bytes(const Checkpoint& checkpoint, int ranks);
std::int64_t copied_column_bytes(std::span<const LayerAdapters> adapters, int ranks);

}  // namespace puna
