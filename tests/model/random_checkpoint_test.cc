// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/thread_pool.h"
#include "checkpoint_fixture.h"
#include "model/checkpoint.h"

namespace puna {
namespace {

ModelConfig shape() {
  ModelConfig config;
  config.layers = 2, config.width = 256, config.heads = 4, config.kv_heads = 2, config.head_width = 64;
  config.feed_forward = 512, config.vocabulary = 300, config.context = 64;
  return config;
}

class RandomCheckpoint : public ::testing::TestWithParam<Format> {};

TEST_P(RandomCheckpoint, SpreadIsThatOfTrainedWeights) {
  const auto model = random_checkpoint(shape(), GetParam(), 7);
  for (const WeightRole role : {WeightRole::kQuery, WeightRole::kDown, WeightRole::kOutput}) {
    const Tensor& tensor = model->weights.at(role, 1);
    EXPECT_EQ(tensor.format, GetParam());
    double sum = 0, squares = 0;
    std::vector<float> row(static_cast<std::size_t>(tensor.shape.row_length()));
    for (std::int64_t n = 0; n < tensor.shape.rows(); ++n) {
      decode_row(tensor, n, row.data());
      for (const float value : row) sum += value, squares += static_cast<double>(value) * value;
    }
    const auto count = static_cast<double>(tensor.shape.count());
    EXPECT_NEAR(sum / count, 0, 0.0005) << tensor.name;
    EXPECT_NEAR(std::sqrt(squares / count), 0.02, 0.001) << tensor.name;
  }
}

TEST_P(RandomCheckpoint, SeedDecidesAndThreadsDoNot) {
  ThreadPool pool(3);
  const auto a = random_checkpoint(shape(), GetParam(), 7), b = random_checkpoint(shape(), GetParam(), 7, &pool),
             c = random_checkpoint(shape(), GetParam(), 8);
  const auto same = [](const Tensor& x, const Tensor& y) { return std::ranges::equal(x.bytes, y.bytes); };
  for (const WeightRole role : {WeightRole::kTokenEmbedding, WeightRole::kGate, WeightRole::kOutput}) {
    EXPECT_TRUE(same(a->weights.at(role), b->weights.at(role)));
    EXPECT_FALSE(same(a->weights.at(role), c->weights.at(role)));
  }
  EXPECT_FALSE(same(a->weights.layers[0].up, a->weights.layers[1].up));
  EXPECT_FALSE(same(a->weights.layers[0].up, a->weights.layers[0].gate));
}

INSTANTIATE_TEST_SUITE_P(Formats, RandomCheckpoint, ::testing::ValuesIn([] {
                           std::vector<Format> all;
                           for (const FormatInfo& row : formats()) all.push_back(row.format);
                           return all;
                         }()),
                         [](const auto& test) { return std::string(puna::info(test.param).name); });

TEST(RandomCheckpoints, NormsAreOnesAndTiedMatricesAreOne) {
  ModelConfig config = shape();
  config.tied_embeddings = true;
  const auto model = random_checkpoint(config, Format::kBF16, 1);
  std::vector<float> norm(256);
  decode_row(model->weights.layers[0].attention_norm, 0, norm.data());
  EXPECT_TRUE(std::ranges::all_of(norm, [](float value) { return value == 1; }));
  EXPECT_EQ(model->weights.output.bytes.data(), model->weights.token_embedding.bytes.data());
  EXPECT_EQ(model->weight_bytes, 2 * (config.parameters() - 5 * 256) + 4 * 5 * 256);
  EXPECT_EQ(model->tokenizer, nullptr);
  expect_error(ErrorKind::kUnsupported, "no tokenizer: give token ids with --tokens", [&] { model->need_tokenizer(); });
}

TEST(RandomCheckpoints, RowsMustDivideIntoBlocks) {
  ModelConfig config = shape();
  config.feed_forward = 520;
  expect_error(ErrorKind::kUnsupported, "rows of 520 values do not divide into blocks of 256 for q4_k",
               [&] { random_checkpoint(config, Format::kQ4_K, 1); });
}

}  // namespace
}  // namespace puna
