// SPDX-License-Identifier: Apache-2.0
// What each rank has of the weights: together all of them, each number once, and nothing cut that no format splits.
#include "model/rank_share.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "base/as_size.h"
#include "expect_error.h"
#include "model/adapter_fixture.h"
#include "model/built_in.h"
#include "model/tiny_checkpoint.h"

namespace puna {
namespace {

std::vector<float> decoded(const Tensor& tensor) {
  std::vector<float> values(static_cast<std::size_t>(tensor.shape.count()));
  for (std::int64_t n = 0; n < tensor.shape.rows(); ++n) decode_row(tensor, n, values.data() + n * tensor.shape.row_length());
  return values;
}

// The shares put together again.
std::vector<float> joined(const std::vector<std::shared_ptr<const Checkpoint>>& shares, WeightRole role, std::int64_t layer) {
  std::vector<float> all;
  if (!splits_columns(role, {0, static_cast<int>(shares.size())})) {
    for (const auto& share : shares) {
      const std::vector<float> part = decoded(share->weights.at(role, layer));
      all.insert(all.end(), part.begin(), part.end());
    }
    return all;
  }
  const std::int64_t rows = shares.front()->weights.at(role, layer).shape.rows();
  std::vector<std::vector<float>> parts;
  for (const auto& share : shares) parts.push_back(decoded(share->weights.at(role, layer)));
  for (std::int64_t n = 0; n < rows; ++n) {
    for (const std::vector<float>& part : parts) {
      const auto width = static_cast<std::ptrdiff_t>(part.size()) / rows;
      all.insert(all.end(), part.begin() + n * width, part.begin() + (n + 1) * width);
    }
  }
  return all;
}

TEST(RankShare, SharesMakeUpTheWhole) {
  ModelConfig config = tiny_config();
  config.kv_heads = 4;
  config.head_width = 128;     // 1024 columns of Wo
  config.feed_forward = 2304;  // nine blocks of 256: no two ranks have as many
  config.vocabulary = 98;
  for (const Format format : {Format::kF32, Format::kBF16, Format::kF8E4M3, Format::kQ8_0, Format::kQ4_K}) {
    const auto whole = tiny_checkpoint(config, format);
    std::vector<float> scales(4096);
    std::iota(scales.begin(), scales.end(), 1.0f);
    if (format == Format::kF8E4M3) {
      for (LayerWeights& layer : whole->weights.layers) {
        for (Tensor* const tensor : {&layer.gate, &layer.down})
          tensor->row_scales = std::as_bytes(std::span(scales)).first(static_cast<std::size_t>(tensor->shape[0]) * sizeof(float));
      }
    }
    for (const int ranks : {2, 4}) {
      const auto shares = shares_on_host(whole, ranks);
      ASSERT_EQ(shares.size(), static_cast<std::size_t>(ranks));
      std::int64_t feed_forward = 0;
      for (const auto& share : shares) {
        check_weights(
            share->config,
            [&] {
              ModelWeights weights = share->weights;
              weights.output = weights.token_embedding;  // whose rows are not the config's
              return weights;
            }(),
            "share");
        EXPECT_EQ(share->config.heads, 8 / ranks);
        EXPECT_EQ(share->config.kv_heads, 4 / ranks);
        EXPECT_LE(share->config.feed_forward, config_of_largest_share(config, ranks).feed_forward);
        EXPECT_EQ(share->config.feed_forward % info(format).block_values, 0);
        feed_forward += share->config.feed_forward;
      }
      EXPECT_EQ(feed_forward, 2304);
      for (const WeightRoleInfo& row : weight_roles()) {
        for (std::int64_t layer = 0; layer < (row.per_layer ? config.layers : 1); ++layer) {
          const std::vector<float> expected = decoded(whole->weights.at(row.role, layer));
          if (row.shard_axis == ShardAxis::kNone || row.role == WeightRole::kTokenEmbedding) {
            for (const auto& share : shares) EXPECT_EQ(decoded(share->weights.at(row.role, layer)), expected) << row.gguf;
          } else {
            EXPECT_EQ(joined(shares, row.role, layer), expected) << row.gguf << " over " << ranks;
          }
        }
      }
    }
  }
}

TEST(RankShare, RowsAreSeenWhereTheyLie) {
  const auto whole = tiny_checkpoint(tiny_config(), Format::kQ8_0);
  const auto shares = shares_on_host(whole, 2);
  EXPECT_EQ(shares[0]->weights.layers[0].query.bytes.data(), whole->weights.layers[0].query.bytes.data());
  EXPECT_EQ(shares[1]->weights.layers[0].query.bytes.data(), whole->weights.layers[0].query.row(128));
  EXPECT_EQ(copied_column_bytes(*whole, 1), 0);
  EXPECT_EQ(copied_column_bytes(*whole, 2), 2 * (256 * 256 + 256 * 512) / 32 * 34);
  EXPECT_EQ(shares_on_host(whole, 1).front(), whole);
}

TEST(RankShare, WhatDoesNotSplitIsRefusedWithFigures) {
  const auto refused = [](const ModelConfig& config, Format format, int ranks, std::string_view message) {
    expect_error(ErrorKind::kUnsupported, message, [&] { check_shares(*tiny_checkpoint(config, format), ranks); });
  };
  ModelConfig config = tiny_config();
  check_shares(*tiny_checkpoint(config, Format::kQ8_0), 2);
  refused(
      config, Format::kQ8_0, 4,
      "[tiny] 8 heads of 32 with 2 key/value heads, whose columns lie in blocks of 32, and a feed-forward width of 512, in blocks "
      "of 32, do not split over 4 devices: use 1 or 2");
  refused(config, Format::kQ8_0, 3, "use 1 or 2");
  refused(config, Format::kQ4_K, 2, "in blocks of 256, do not split over 2 devices: this model runs on one");
  config.kv_heads = 8;
  refused(config, Format::kF32, 3, "use 1 or 2, 4, 8");
  config.feed_forward = 96;  // three blocks
  refused(config, Format::kF32, 4, "use 1 or 2");
}

TEST(RankShare, AdaptersHaveRowsOfBOrColumnsOfA) {
  const auto checkpoint = tiny_checkpoint(tiny_config(), Format::kF32);
  const std::shared_ptr<const AdapterSet> set = random_adapters(checkpoint->config, 3, 1, {WeightRole::kKey, WeightRole::kDown});
  const LowRank &whole_key = set->layers[1].at(WeightRole::kKey), &whole_down = set->layers[1].at(WeightRole::kDown);
  const auto value = [](const Tensor& tensor, std::int64_t row, std::int64_t column) {
    float number;
    std::memcpy(&number, tensor.row(row) + as_size(column) * sizeof(float), sizeof(float));
    return number;
  };
  std::int64_t rows = 0, columns = 0;
  for (const int rank : {0, 1}) {
    const auto part = adapters_of_share(set, share_of_rank(*checkpoint, rank, 2));
    const LowRank &key = part->layers[1].at(WeightRole::kKey), &down = part->layers[1].at(WeightRole::kDown);
    EXPECT_EQ(key.a.bytes.data(), whole_key.a.bytes.data());
    EXPECT_EQ(value(key.b, 0, 2), value(whole_key.b, rows, 2));
    EXPECT_EQ(down.b.bytes.data(), whole_down.b.bytes.data());
    EXPECT_EQ(value(down.a, 2, 5), value(whole_down.a, 2, columns + 5));
    EXPECT_EQ(down.a.shape[0], 3);
    rows += key.b.shape[0];
    columns += down.a.shape[1];
  }
  EXPECT_EQ(rows, whole_key.b.shape[0]);
  EXPECT_EQ(columns, whole_down.a.shape[1]);
  EXPECT_EQ(copied_column_bytes(set->layers, 2), 2 * 3 * 512 * 4);
  EXPECT_EQ(adapters_of_share(set, share_of_rank(*checkpoint, 0, 1)), set);
}

TEST(RankShare, NanoSplitsOverTwo) {
  const std::shared_ptr<const Checkpoint> nano = open_checkpoint(kBuiltInPath);
  check_shares(*nano, 2);
  const auto shares = shares_on_host(nano, 2);  // 21 blocks of 32
  EXPECT_EQ(shares[0]->config.feed_forward, 320);
  EXPECT_EQ(shares[1]->config.feed_forward, 352);
  EXPECT_FALSE(shares[0]->config.tied_embeddings);
  EXPECT_EQ(shares[1]->weights.output.shape, (Shape{2048, 256}));
  expect_error(ErrorKind::kUnsupported, "use 1 or 2", [&] { check_shares(*nano, 4); });
}

}  // namespace
}  // namespace puna
