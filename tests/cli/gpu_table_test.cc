// SPDX-License-Identifier: Apache-2.0
// What fits on how many GPUs, without any: the figures against those worked out by hand.
#include "cli/gpu_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/random_model.h"
#include "expect_error.h"
#include "model/config.h"
#include "model/rank_share.h"

namespace puna {
namespace {

using testing::HasSubstr;

TEST(GpuTable, ReadsItsFlags) {
  EXPECT_EQ(gpu_counts("8"), std::vector<int>{8});
  EXPECT_EQ(gpu_counts("1,2,4,8"), (std::vector<int>{1, 2, 4, 8}));
  for (const char* const text : {"", "0", "1,", ",2", "1;2", "two", "65", "-1"})
    expect_error(ErrorKind::kUsage, "expected numbers of GPUs from 1 to 64", [&] { gpu_counts(text); });
  EXPECT_EQ(memory_size("80GB"), 80'000'000'000);
  EXPECT_EQ(memory_size("1.5TB"), 1'500'000'000'000);
  EXPECT_EQ(memory_size("79.5GiB"), 159 * (std::int64_t{1} << 29));
  for (const char* const text : {"", "80", "80 GB", "80gb", "GB", "-1GB", "0GB", "nanGB", "infGB", "1e9GB"})
    expect_error(ErrorKind::kUsage, "expected the memory of one GPU, as in 80GB or 80GiB", [&] { memory_size(text); });
}

// 8B in BF16: 8,030,261,248 numbers, 525,336,576 of them in the embedding, which every GPU has whole, and 266,240 in norms.
TEST(GpuTable, CountsTheLargestShare) {
  const auto model = outline_model(known_shape("8b").value(), "bf16");
  constexpr std::int64_t kAll = 8'030'261'248, kEmbedding = 525'336'576, kNorms = 266'240;
  EXPECT_EQ(largest_share_bytes(*model, 1), model->weight_bytes);
  const std::int64_t norms = model->weight_bytes - 2 * (kAll - kNorms);
  EXPECT_EQ(norms, 4 * kNorms);
  for (const int gpus : {2, 4, 8})
    EXPECT_EQ(largest_share_bytes(*model, gpus), 2 * (kEmbedding + (kAll - kNorms - kEmbedding) / gpus) + norms) << gpus;

  const std::vector<GpuRow> rows = plan_gpus(*model, {.gpus = {1, 3, 8}, .memory = 80'000'000'000, .context = 131072});
  EXPECT_EQ(rows[0].plan.kv, std::int64_t{16} << 30);
  EXPECT_EQ(rows[2].plan.kv, std::int64_t{2} << 30);
  EXPECT_TRUE(rows[0].plan.fits());
  EXPECT_EQ(rows[0].plan.available, 80'000'000'000);
  EXPECT_GT(rows[2].plan.largest_context, 8 * rows[0].plan.largest_context);
  EXPECT_THAT(rows[1].why_not, HasSubstr("do not split over 3 devices: use 1 or 2, 4, 8"));
}

// 32 layers of 218,112,000 numbers in three stages: 10 and the embedding, 12, 10 and the output matrix.
TEST(GpuTable, StagesShareTheGpus) {
  const auto model = outline_model(known_shape("8b").value(), "bf16");
  const GpuQuestion question{.gpus = {1, 3, 6}, .stages = 3, .memory = 80'000'000'000, .context = 131072};
  const std::vector<GpuRow> rows = plan_gpus(*model, question);
  EXPECT_EQ(rows[0].why_not, "[--pipeline] 3 stages cannot share 1 GPUs equally");
  constexpr std::int64_t kNormOfLayer = 2 * 4096, kLayer = 218'112'000 - kNormOfLayer, kEmbedding = 525'336'576;
  EXPECT_EQ(rows[1].plan.weights, 10 * (2 * kLayer + 4 * kNormOfLayer) + 2 * kEmbedding + 4 * 4096);
  EXPECT_EQ(rows[1].plan.kv, (std::int64_t{16} << 30) * 12 / 32);
  EXPECT_EQ(rows[1].plan.gpus, 3);
  EXPECT_EQ(rows[2].plan.kv, rows[1].plan.kv / 2);
  EXPECT_LT(rows[2].plan.weights, rows[1].plan.weights);
  EXPECT_THAT(gpu_table_text(*model, question), HasSubstr("131072 positions in f16, in 3 stages:"));
  EXPECT_EQ(gpu_table_json(*model, question)["stages"], 3);
  expect_error(ErrorKind::kUnsupported, "32 layers do not divide into 33 stages: give --pipeline 32 or less",
               [&] { plan_gpus(*model, {.gpus = {33}, .stages = 33, .memory = 1, .context = 64}); });
}

TEST(GpuTable, TextAndJsonHaveARowForEachNumber) {
  const auto model = outline_model(known_shape("405b").value(), "fp8");
  const GpuQuestion question{.gpus = {1, 8, 16}, .memory = 80'000'000'000, .context = 8192};
  const std::string text = gpu_table_text(*model, question);
  EXPECT_THAT(text, HasSubstr("Llama 3.1 405B"));
  EXPECT_THAT(text, HasSubstr("not the weights"));
  EXPECT_THAT(text, HasSubstr("do not split over 16 devices"));
  const Json json = gpu_table_json(*model, question);
  ASSERT_EQ(json["gpus"].size(), 3u);
  EXPECT_FALSE(json["gpus"][0]["memory"]["fits"].get<bool>());
  EXPECT_TRUE(json["gpus"][1]["memory"]["fits"].get<bool>());
  EXPECT_FALSE(json["gpus"][2]["splits"].get<bool>());
  expect_error(ErrorKind::kUnsupported, "use f16, bf16, f8_e4m3 or f32",
               [&] { plan_gpus(*model, {.gpus = {1}, .memory = 1, .kv_format = Format::kQ8_0, .context = 64}); });
}

TEST(OutlineModel, HasTheFormatsOfTheType) {
  ModelConfig config = known_shape("1b").value();
  config.layers = 3;
  const auto outline = outline_model(config, "fp8");
  EXPECT_EQ(outline->weights.layers[0].up.format, Format::kBF16);
  EXPECT_EQ(outline->weights.layers[1].up.format, Format::kF8E4M3);
  EXPECT_TRUE(outline->weights.layers[1].up.bytes.empty());
  ThreadPool pool(2);
  config.vocabulary = 1000;
  EXPECT_EQ(outline_model(config, "q4_k_m")->weight_bytes, random_model(config, "q4_k_m", pool)->weight_bytes);
  expect_error(ErrorKind::kUsage, "expected 1b, 3b, 8b, 70b or 405b", [] { shape_of_flag("2b"); });
}

}  // namespace
}  // namespace puna
