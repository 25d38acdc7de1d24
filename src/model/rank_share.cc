// SPDX-License-Identifier: Apache-2.0
#include "model/rank_share.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "base/as_size.h"
#include "base/error.h"
#include "kernels/collective.h"
#include "tensor/arena.h"

namespace puna {
namespace {

constexpr std::int64_t kAligned = 32;       // values: kernels load that many at once, so widths stay multiples where they are
constexpr std::int64_t kWidestBlock = 256;  // values, of any format

ShardAxis axis_of(WeightRole role) { return role == WeightRole::kTokenEmbedding ? ShardAxis::kNone : info(role).shard_axis; }

// What no rank may split: of the columns of Wo and of Wdown in any layer.
struct ColumnBlocks {
  std::int64_t attention = 1, feed_forward = 1;
};
ColumnBlocks column_blocks(const Checkpoint& checkpoint) {
  ColumnBlocks blocks;
  if (checkpoint.config.feed_forward % kAligned == 0) blocks.feed_forward = kAligned;
  for (const LayerWeights& layer : checkpoint.weights.layers) {
    blocks.attention = std::max<std::int64_t>(blocks.attention, info(layer.attention_output.format).block_values);
    blocks.feed_forward = std::max<std::int64_t>(blocks.feed_forward, info(layer.down.format).block_values);
  }
  return blocks;
}

bool divides(const ModelConfig& config, const ColumnBlocks& blocks, std::int64_t ranks) {
  return config.kv_heads % ranks == 0 && config.heads / ranks * config.head_width % blocks.attention == 0 &&
         config.feed_forward / blocks.feed_forward >= ranks;
}

// Of `count` rows or columns, in whole units.
IndexRange part_of(std::int64_t count, std::int64_t unit, const Share& share) {
  const std::int64_t units = count / unit;
  return {units * share.rank / share.ranks * unit, units * (share.rank + 1) / share.ranks * unit};
}

std::int64_t unit_of(WeightRole role, const Share& share) {
  const bool feed_forward = role == WeightRole::kGate || role == WeightRole::kUp || role == WeightRole::kDown;
  return feed_forward ? share.block : 1;
}

Tensor rows_of_share(const Tensor& whole, const IndexRange& rows) {
  Tensor part = whole;
  part.shape = {rows.count(), whole.shape[1]};
  const auto piece = [&](std::span<const std::byte> bytes, std::int64_t row_bytes) {
    return bytes.empty() ? bytes : bytes.subspan(as_size(rows.first * row_bytes), as_size(rows.count() * row_bytes));
  };
  part.bytes = piece(whole.bytes, whole.row_bytes());
  part.row_scales = piece(whole.row_scales, sizeof(float));
  return part;
}

std::size_t matrix_bytes(const Tensor& tensor) { return as_size(format_bytes(tensor.format, tensor.shape.count())); }

// visit(role, layer) of all weights whose columns are split.
template <typename Visit>
void each_split_column(const Checkpoint& checkpoint, const Share& share, Visit&& visit) {
  for (const WeightRoleInfo& row : weight_roles()) {
    if (!splits_columns(row.role, share)) continue;
    for (std::int64_t layer = 0; layer < checkpoint.config.layers; ++layer) visit(row.role, layer);
  }
}

}  // namespace

void check_shares(const Checkpoint& checkpoint, int ranks, int stages) {
  const int devices = ranks * std::max(stages, 1);
  if (devices == 1) return;
  const ModelConfig& config = checkpoint.config;
  if (stages > config.layers) {
    fail(ErrorKind::kUnsupported, checkpoint.where, "{} layers do not divide into {} stages: give --pipeline {} or less",
         config.layers, stages, config.layers);
  }
  const ColumnBlocks blocks = column_blocks(checkpoint);
  if (ranks == 1 || divides(config, blocks, ranks)) return;
  std::vector<int> possible;
  for (int count = 2; count <= kMostRanks; ++count) {
    if (divides(config, blocks, count)) possible.push_back(count);
  }
  fail(ErrorKind::kUnsupported, checkpoint.where,
       "{} heads of {} with {} key/value heads, whose columns lie in blocks of {}, and a feed-forward width of {}, in blocks of "
       "{}, do "
       "not split over {} devices: {}{}",
       config.heads, config.head_width, config.kv_heads, blocks.attention, config.feed_forward, blocks.feed_forward, ranks,
       possible.empty() ? "this model runs on one" : fmt::format("use 1 or {}", fmt::join(possible, ", ")),
       stages != kNoStages && devices <= config.layers ? fmt::format(", or divide its layers: --pipeline {}", devices) : "");
}

Share share_of_rank(const Checkpoint& checkpoint, int rank, int ranks) {
  return {rank, ranks, ranks == 1 ? 1 : column_blocks(checkpoint).feed_forward};
}

IndexRange part_of(std::int64_t count, WeightRole role, const Share& share) { return part_of(count, unit_of(role, share), share); }

ModelConfig config_of_share(const ModelConfig& config, const Share& share) {
  ModelConfig part = config;
  part.heads /= share.ranks;
  part.kv_heads /= share.ranks;
  part.feed_forward = part_of(config.feed_forward, share.block, share).count();
  return part;
}

ModelConfig config_of_largest_share(const ModelConfig& config, int ranks) {
  if (ranks == 1) return config;
  ModelConfig part = config_of_share(config, {0, ranks});
  const std::int64_t most = (config.feed_forward + kWidestBlock * ranks - 1) / (kWidestBlock * ranks) * kWidestBlock;
  part.feed_forward = std::min(config.feed_forward, most);
  return part;
}

std::int64_t first_logit(const ModelConfig& config, int rank, int ranks) {
  return part_of(config.vocabulary, 1, {rank, ranks}).first;
}

bool splits_columns(WeightRole role, const Share& share) { return share.ranks > 1 && axis_of(role) == ShardAxis::kColumns; }

Tensor share_of(const Tensor& whole, WeightRole role, const Share& share) {
  if (share.ranks == 1 || axis_of(role) == ShardAxis::kNone) return whole;
  if (axis_of(role) == ShardAxis::kRows) return rows_of_share(whole, part_of(whole.shape[0], unit_of(role, share), share));
  Tensor part = whole;
  part.shape = {whole.shape[0], part_of(whole.shape[1], unit_of(role, share), share).count()};
  part.bytes = {};
  return part;
}

Tensor copy_columns(const Tensor& whole, WeightRole role, const Share& share, std::span<std::byte> memory) {
  Tensor part = share_of(whole, role, share);
  const std::int64_t first = part_of(whole.shape[1], unit_of(role, share), share).first;
  const auto offset = as_size(format_bytes(whole.format, first)), row_bytes = as_size(part.row_bytes());
  for (std::int64_t n = 0; n < whole.shape[0]; ++n)
    std::memcpy(memory.data() + as_size(n) * row_bytes, whole.row(n) + offset, row_bytes);
  part.bytes = memory.first(as_size(whole.shape[0]) * row_bytes);
  return part;
}

std::vector<LayerAdapters> share_of(std::span<const LayerAdapters> whole, const Share& share) {
  std::vector<LayerAdapters> part(whole.begin(), whole.end());
  each_adapter(part, [&](LowRank& adapter, WeightRole role) {
    Tensor& split = splits_columns(role, share) ? adapter.a : adapter.b;
    split = share_of(split, role, share);
  });
  return part;
}

std::shared_ptr<void> copy_columns(std::span<const LayerAdapters> whole, const Share& share, std::span<LayerAdapters> part) {
  std::size_t bytes = 0;
  each_adapter(part, [&](const LowRank& adapter, WeightRole role) {
    if (splits_columns(role, share)) bytes += Arena::padded(matrix_bytes(adapter.a));
  });
  const auto arena = std::make_shared<Arena>(bytes, "the columns of a rank's adapters");
  for (std::size_t layer = 0; layer < part.size(); ++layer) {
    each_adapter(part.subspan(layer, 1), [&](LowRank& adapter, WeightRole role) {
      if (splits_columns(role, share))
        adapter.a = copy_columns(whole[layer].at(role).a, role, share, arena->take(matrix_bytes(adapter.a)));
    });
  }
  return arena;
}

std::shared_ptr<const AdapterSet> adapters_of_share(const std::shared_ptr<const AdapterSet>& whole, const Share& share) {
  if (share.ranks == 1) return whole;
  const auto part = std::make_shared<AdapterSet>(*whole);
  part->layers = share_of(whole->layers, share);
  part->owner = std::make_shared<std::pair<std::shared_ptr<const AdapterSet>, std::shared_ptr<void>>>(
      whole, copy_columns(whole->layers, share, part->layers));
  return part;
}

std::shared_ptr<Checkpoint> checkpoint_of_share(const Checkpoint& checkpoint, const Share& share) {
  auto part = std::make_shared<Checkpoint>(checkpoint);
  if (share.ranks == 1) return part;
  part->config = config_of_share(checkpoint.config, share);
  part->config.tied_embeddings = false;
  part->adapters = share_of(checkpoint.adapters, share);
  part->weight_bytes = 0;
  for (const WeightRoleInfo& row : weight_roles()) {
    for (std::int64_t layer = 0; layer < (row.per_layer ? checkpoint.config.layers : 1); ++layer) {
      Tensor& tensor = part->weights.at(row.role, layer);
      tensor = share_of(checkpoint.weights.at(row.role, layer), row.role, share);
      part->weight_bytes += stored_bytes(tensor);
    }
  }
  return part;
}

std::shared_ptr<const Checkpoint> share_on_host(const std::shared_ptr<const Checkpoint>& checkpoint, const Share& share) {
  if (share.ranks == 1) return checkpoint;
  const std::shared_ptr<Checkpoint> part = checkpoint_of_share(*checkpoint, share);
  std::size_t bytes = 0;
  each_split_column(*part, share, [&](WeightRole role, std::int64_t layer) {
    bytes += Arena::padded(matrix_bytes(part->weights.at(role, layer)));
  });
  const auto arena = std::make_shared<Arena>(bytes, "the columns of a rank");
  each_split_column(*part, share, [&](WeightRole role, std::int64_t layer) {
    Tensor& tensor = part->weights.at(role, layer);
    tensor = copy_columns(checkpoint->weights.at(role, layer), role, share, arena->take(matrix_bytes(tensor)));
  });
  part->owners.push_back(arena);
  part->owners.push_back(copy_columns(checkpoint->adapters, share, part->adapters));
  return part;
}

std::vector<std::shared_ptr<const Checkpoint>> shares_on_host(const std::shared_ptr<const Checkpoint>& checkpoint, int ranks) {
  std::vector<std::shared_ptr<const Checkpoint>> shares;
  for (int rank = 0; rank < ranks; ++rank) shares.push_back(share_on_host(checkpoint, share_of_rank(*checkpoint, rank, ranks)));
  return shares;
}

std::int64_t largest_share_bytes(const Checkpoint& checkpoint, int ranks) {
  std::int64_t most = 0;
  for (int rank = 0; rank < ranks; ++rank)
    most = std::max(most, checkpoint_of_share(checkpoint, share_of_rank(checkpoint, rank, ranks))->weight_bytes);
  return most;
}

std::int64_t copied_column_bytes(const Checkpoint& checkpoint, int ranks) {
  std::size_t bytes = 0;
  each_split_column(checkpoint, {0, ranks},
                    [&](WeightRole role, std::int64_t layer) { bytes += matrix_bytes(checkpoint.weights.at(role, layer)); });
  return static_cast<std::int64_t>(bytes) + copied_column_bytes(checkpoint.adapters, ranks);
}

std::int64_t copied_column_bytes(std::span<const LayerAdapters> adapters, int ranks) {
  std::size_t bytes = 0;
  each_adapter(adapters, [&](const LowRank& adapter, WeightRole role) {
    if (splits_columns(role, {0, ranks})) bytes += matrix_bytes(adapter.a);
  });
  return static_cast<std::int64_t>(bytes);
}

}  // namespace puna
