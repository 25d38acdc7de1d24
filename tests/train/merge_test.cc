// SPDX-License-Identifier: Apache-2.0
#include "train/merge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "expect_error.h"
#include "model/gradient_pass.h"
#include "model/tiny_checkpoint.h"

namespace puna {
namespace {

namespace fs = std::filesystem;

class MergeTest : public testing::TestWithParam<RopePairing> {
 protected:
  MergeTest() : folder_(fs::temp_directory_path() / ("puna-merge-" + std::to_string(::getpid()))) {
    fs::create_directories(folder_);
  }
  ~MergeTest() override { fs::remove_all(folder_); }

  std::vector<float> hidden_of(Parameters& parameters) {
    const std::vector<Token> tokens{Token{1}, Token{5}, Token{90}, Token{7}, Token{30}, Token{2}, Token{2}, Token{66}, Token{12}};
    std::vector<std::int32_t> positions;
    for (std::size_t t = 0; t < tokens.size(); ++t) positions.push_back(static_cast<std::int32_t>(t));
    const std::vector<PackedSegment> segments{{.first_row = 0, .rows = static_cast<std::int64_t>(tokens.size())}};
    GradientPass pass(parameters, device_, 16, Keep::kNothing);
    const auto hidden = pass.forward({.tokens = tokens, .positions = positions, .segments = segments});
    return {hidden.begin(), hidden.end()};
  }

  fs::path folder_;
  ThreadPool pool_{2};
  Device device_{pool_};
};

// Query and key rows lie in another order in Hugging Face's files than in GGUF's: both bases must come back to themselves.
TEST_P(MergeTest, AMergedModelComputesWhatBaseAndAdapterDo) {
  ModelConfig config = tiny_config();
  config.rope_pairing = GetParam();
  const std::shared_ptr<Checkpoint> base = TinyCheckpointMaker(config, Format::kF32, 3).take();
  TrainChoice choice;
  choice.trained = Trained::kAdapters;
  choice.lora.rank = 4;
  choice.lora.alpha = 6;
  Parameters adapted(base, choice, device_);
  std::uint64_t stream = 0;
  for (Parameter& each : adapted.all()) {
    for (std::size_t i = 0; i < each.value.size(); ++i) each.value[i] = static_cast<float>(0.05 * random_normal(8, stream, i));
    ++stream;
  }
  adapted.values_changed(device_);
  const std::vector<float> expected = hidden_of(adapted);

  write_adapter(folder_, adapted, choice.lora, "base");
  const AdapterFile adapter = read_adapter(folder_);
  EXPECT_EQ(adapter.base, "base");
  EXPECT_EQ(adapter.matrices.size(), 14u);
  const std::shared_ptr<Checkpoint> merged = merge_adapter(base, adapter, std::nullopt, pool_);
  EXPECT_EQ(merged->weights.at(WeightRole::kQuery, 0).format, Format::kF32) << "the base's own";
  EXPECT_EQ(merge_adapter(base, adapter, Format::kF16, pool_)->weights.at(WeightRole::kQuery, 0).format, Format::kF16);
  TrainChoice frozen;
  frozen.trained = Trained::kNothing;
  Parameters plain(merged, frozen, device_), untouched(base, frozen, device_);
  const std::vector<float> got = hidden_of(plain), before = hidden_of(untouched);
  float largest = 0, error = 0, change = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    largest = std::max(largest, std::abs(expected[i]));
    error = std::max(error, std::abs(got[i] - expected[i]));
    change = std::max(change, std::abs(before[i] - expected[i]));
  }
  EXPECT_GT(change, 0.05f * largest) << "the adapters change nothing: the test would not see a wrong merge";
  EXPECT_LT(error, 2e-5f * largest);
}

TEST(MergeAdapter, TheScoreHasToFitTheBase) {
  ThreadPool pool(1);
  const std::shared_ptr<Checkpoint> base = TinyCheckpointMaker(tiny_config(), Format::kF32, 3).take();
  const std::int64_t width = base->config.width;
  const std::vector<float> values(static_cast<std::size_t>(2 * width), 0.5f);
  const auto merged = [&](const Shape& shape) {
    AdapterFile adapter{.base = "base", .file = {}, .matrices = {}, .reward_head = {}, .owners = {}};
    const auto bytes = std::as_bytes(std::span(values).first(static_cast<std::size_t>(shape.count())));
    adapter.reward_head = {"base_model.model.score.weight", Format::kF32, shape, bytes, {}};
    return merge_adapter(base, adapter, std::nullopt, pool);
  };
  EXPECT_TRUE(merged({1, width})->reward_head);
  const std::string expected = fmt::format("expected 1 × {}: only a reward's single score can be computed", width);
  for (const Shape& shape : {Shape{1, 2 * width}, Shape{1, width / 2}, Shape{2, width}, Shape{width}})
    expect_error(ErrorKind::kUnsupported, expected, [&] { merged(shape); });
}

INSTANTIATE_TEST_SUITE_P(Pairings, MergeTest, testing::Values(RopePairing::kNeighbours, RopePairing::kHalves));

float value_at(const Checkpoint& checkpoint, WeightRole role, std::int64_t row, std::size_t column) {
  const Tensor& tensor = checkpoint.weights.at(role, 1);
  std::vector<float> values(static_cast<std::size_t>(tensor.shape.row_length()));
  decode_row(tensor, row, values.data());
  return values[column];
}

TEST(AverageCheckpoints, IsTheWeightedMean) {
  ThreadPool pool(2);
  const auto a = TinyCheckpointMaker(tiny_config(), Format::kF32, 1).take(),
             b = TinyCheckpointMaker(tiny_config(), Format::kF32, 2).take();
  const auto mean = average_checkpoints({{a, 1}, {b, 3}}, std::nullopt, pool);
  EXPECT_EQ(mean->weights.at(WeightRole::kQuery, 1).format, Format::kF32) << "the first's own";
  for (const WeightRole role : {WeightRole::kQuery, WeightRole::kDown}) {
    const double expected =
        0.25 * static_cast<double>(value_at(*a, role, 5, 9)) + 0.75 * static_cast<double>(value_at(*b, role, 5, 9));
    EXPECT_NEAR(value_at(*mean, role, 5, 9), expected, 1e-6);
  }
}

TEST(AverageCheckpoints, AveragesTheHeadsOfRewardModels) {
  ThreadPool pool(1);
  const auto with_head = [](std::uint64_t stream, const std::vector<float>& head) {
    auto checkpoint = std::make_shared<Checkpoint>(*TinyCheckpointMaker(tiny_config(), Format::kF32, stream).take());
    checkpoint->reward_head = {
        "score.weight", Format::kF32, Shape{1, static_cast<std::int64_t>(head.size())}, std::as_bytes(std::span(head)), {}};
    return checkpoint;
  };
  const std::vector<float> ones(static_cast<std::size_t>(tiny_config().width), 1.0f), fives(ones.size(), 5.0f);
  const auto a = with_head(1, ones), b = with_head(2, fives);
  const auto mean = average_checkpoints({{a, 1}, {b, 3}}, std::nullopt, pool);
  std::vector<float> head(ones.size());
  decode_row(mean->reward_head, 0, head.data());
  EXPECT_EQ(head, std::vector<float>(ones.size(), 4.0f));
  const auto none = TinyCheckpointMaker(tiny_config(), Format::kF32, 3).take();
  EXPECT_THROW(average_checkpoints({{a, 1}, {none, 1}}, std::nullopt, pool), Error);
  EXPECT_THROW(average_checkpoints({{none, 1}, {a, 1}}, std::nullopt, pool), Error);
}

TEST(AverageCheckpoints, RefusesOtherShapesAndShares) {
  ThreadPool pool(1);
  ModelConfig other = tiny_config();
  other.feed_forward = 256;
  const auto a = TinyCheckpointMaker(tiny_config(), Format::kF32, 1).take(), b = TinyCheckpointMaker(other, Format::kF32, 2).take();
  EXPECT_THROW(average_checkpoints({{a, 1}, {b, 1}}, Format::kF32, pool), Error);
  EXPECT_THROW(average_checkpoints({{a, 1}, {a, -1}}, Format::kF32, pool), Error);
  EXPECT_THROW(average_checkpoints({{a, 0}, {a, 0}}, Format::kF32, pool), Error);
  for (const double share : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()})
    EXPECT_THROW(average_checkpoints({{a, 1}, {a, share}}, Format::kF32, pool), Error);
}

TEST(AverageCheckpoints, RefusesOtherRotationsAndNorms) {
  ThreadPool pool(1);
  const auto a = TinyCheckpointMaker(tiny_config(), Format::kF32, 1).take();
  const auto averaged_with = [&](const auto& change) {
    ModelConfig config = tiny_config();
    change(config);
    auto other = std::make_shared<Checkpoint>(*TinyCheckpointMaker(config, Format::kF32, 2).take());
    other->where = "other";
    return average_checkpoints({{a, 1}, {other, 1}}, std::nullopt, pool);
  };
  const std::string turned = "[other] has other rotary frequencies than tiny";
  expect_error(ErrorKind::kBadInput, turned, [&] { averaged_with([](ModelConfig& config) { config.rope_theta *= 50; }); });
  expect_error(ErrorKind::kBadInput, turned, [&] { averaged_with([](ModelConfig& config) { config.rope_linear_factor = 2; }); });
  expect_error(ErrorKind::kBadInput, turned, [&] {
    averaged_with([](ModelConfig& config) {
      config.rope_scaling = RopeScaling{.factor = 8, .low_frequency_factor = 1, .high_frequency_factor = 4, .original_context = 64};
    });
  });
  expect_error(ErrorKind::kBadInput, "[other] has the norm_eps",
               [&] { averaged_with([](ModelConfig& config) { config.norm_eps *= 2; }); });
  // As GGUF holds it.
  EXPECT_TRUE(
      averaged_with([](ModelConfig& config) { config.norm_eps = static_cast<double>(static_cast<float>(config.norm_eps)); }));
}

}  // namespace
}  // namespace puna
