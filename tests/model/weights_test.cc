// SPDX-License-Identifier: Apache-2.0
#include "model/weights.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <set>

#include "checkpoint_fixture.h"
#include "model/checkpoint.h"

namespace puna {
namespace {

ModelConfig small() {
  ModelConfig config;
  config.layers = 2, config.width = 64, config.heads = 4, config.kv_heads = 2, config.head_width = 16;
  config.feed_forward = 96, config.vocabulary = 50, config.context = 64;
  return config;
}

TEST(Weights, EveryNameLeadsBackToItsRole) {
  for (const NameColumn column : {&WeightRoleInfo::gguf, &WeightRoleInfo::hugging_face, &WeightRoleInfo::meta}) {
    std::set<std::string> names;
    for (const WeightRoleInfo& row : weight_roles()) {
      EXPECT_EQ(info(row.role).gguf, row.gguf);
      const std::string name = weight_name(row.role, column, 17);
      EXPECT_TRUE(names.insert(name).second) << name;
      const auto slot = find_weight(name, column);
      ASSERT_TRUE(slot) << name;
      EXPECT_EQ(slot->role, row.role);
      EXPECT_EQ(slot->layer, row.per_layer ? 17 : 0);
    }
  }
  EXPECT_EQ(weight_name(WeightRole::kUp, &WeightRoleInfo::hugging_face, 3), "model.layers.3.mlp.up_proj.weight");
  EXPECT_EQ(weight_name(WeightRole::kUp, &WeightRoleInfo::meta, 3), "layers.3.feed_forward.w3.weight");
  EXPECT_EQ(weight_name(WeightRole::kGate, &WeightRoleInfo::meta, 0), "layers.0.feed_forward.w1.weight");
  EXPECT_EQ(weight_name(WeightRole::kDown, &WeightRoleInfo::gguf, 12), "blk.12.ffn_down.weight");
}

TEST(Weights, NamesThatOnlyLookAlikeAreNotFound) {
  for (const char* name :
       {"blk..attn_q.weight", "blk.-1.attn_q.weight", "blk.01.attn_q.weight", "blk.1.attn_q.bias", "blk.1x.attn_q.weight",
        "blk.99999999999999999999.attn_q.weight", "xblk.1.attn_q.weight", "output.weightx", "", "blk."}) {
    EXPECT_FALSE(find_weight(name, &WeightRoleInfo::gguf)) << name;
  }
}

TEST(Weights, ShapesAddUpToTheParameterCount) {
  for (const bool tied : {false, true}) {
    ModelConfig config = *known_shape("8b");
    config.tied_embeddings = tied;
    std::int64_t sum = 0;
    for (const WeightRoleInfo& row : weight_roles()) {
      if (row.role == WeightRole::kOutput && tied) continue;
      sum += weight_shape(config, row.role).count() * (row.per_layer ? config.layers : 1);
    }
    EXPECT_EQ(sum, config.parameters());
  }
}

class CheckWeights : public ::testing::Test {
 protected:
  // Expects check_weights to refuse `weights_` after a change to `tensor`.
  void refuses(ErrorKind kind, const std::string& text) {
    expect_error(kind, text, [&] { check_weights(model_->config, model_->weights, "m.gguf", &WeightRoleInfo::gguf); });
  }
  void use(Format format) { model_ = random_checkpoint(small(), format, 1); }
  // A copy of a tensor's bytes that may be damaged.
  std::vector<std::byte>& own(Tensor& tensor) {
    copies_.push_back(std::make_unique<std::vector<std::byte>>(tensor.bytes.begin(), tensor.bytes.end()));
    tensor.bytes = *copies_.back();
    return *copies_.back();
  }
  std::shared_ptr<Checkpoint> model_ = random_checkpoint(small(), Format::kBF16, 1);
  std::vector<std::unique_ptr<std::vector<std::byte>>> copies_;
};

TEST_F(CheckWeights, MissingAndMisshapenTensors) {
  model_->weights.layers[1].up = {};
  refuses(ErrorKind::kBadInput, "[m.gguf] tensor blk.1.ffn_up.weight is missing");
  use(Format::kBF16);
  model_->weights.layers[1].up.shape = {64, 96};
  refuses(ErrorKind::kBadInput, "tensor blk.1.ffn_up.weight is [64, 96], expected [96, 64] from the config");
  use(Format::kBF16);
  model_->weights.output_norm.shape = {64, 1};
  refuses(ErrorKind::kBadInput, "tensor output_norm.weight is [64, 1], expected [64]");
  use(Format::kBF16);
  model_->weights.output.bytes = model_->weights.output.bytes.first(6);
  refuses(ErrorKind::kBadInput, "tensor output.weight has 6 bytes, expected 6400");
}

TEST_F(CheckWeights, FormatsThatDoNotFit) {
  model_->weights.output_norm.format = Format::kQ8_0;
  refuses(ErrorKind::kUnsupported, "tensor output_norm.weight is q8_0: a norm must be f32, f16 or bf16");
  use(Format::kBF16);
  model_->weights.layers[0].query.format = Format::kQ4_K;
  refuses(ErrorKind::kUnsupported, "tensor blk.0.attn_q.weight has rows of 64 values, expected a multiple of 256 for q4_k");
  use(Format::kF8E4M3);
  model_->weights.layers[0].query.row_scales = model_->weights.layers[0].query.row_scales.first(8);
  refuses(ErrorKind::kBadInput, "has 8 bytes of row scales, expected 256");
}

TEST_F(CheckWeights, NanAndInfinityAreNamedWithTheirRow) {
  const float nan = std::nanf("");
  std::memcpy(own(model_->weights.layers[1].attention_norm).data() + 12, &nan, 4);
  refuses(ErrorKind::kBadInput, "tensor blk.1.attn_norm.weight holds NaN or infinity in row 0");
  use(Format::kQ4_0);
  const std::uint16_t infinity = 0x7c00;  // the scale of a block in the middle
  std::memcpy(own(model_->weights.layers[0].down).data() + 18 * 3 * 30, &infinity, 2);
  refuses(ErrorKind::kBadInput, "tensor blk.0.ffn_down.weight holds NaN or infinity in row 30");
  use(Format::kF8E4M3);
  own(model_->weights.token_embedding)[64 * 7] = std::byte{0x7f};
  refuses(ErrorKind::kBadInput, "tensor token_embd.weight holds NaN or infinity in row 7");
  use(Format::kF8E4M3);
  std::vector<float> scales(50, 1.0f);
  scales[49] = nan;
  model_->weights.output.row_scales = std::as_bytes(std::span(scales));
  refuses(ErrorKind::kBadInput, "the scale of row 49 of tensor output.weight is nan");
}

TEST_F(CheckWeights, OfALargeTensorTheFirstAndLastRowAreRead) {
  ModelConfig config = small();
  config.vocabulary = 10000;  // 1.28 MB
  model_ = random_checkpoint(config, Format::kBF16, 1);
  const std::uint16_t nan = 0x7fc0;
  std::memcpy(own(model_->weights.output).data() + 128 * 9999, &nan, 2);
  refuses(ErrorKind::kBadInput, "tensor output.weight holds NaN or infinity in row 9999");
}

TEST_F(CheckWeights, TiedOutputIsNotAskedFor) {
  model_->config.tied_embeddings = true;
  model_->weights.output = {};
  EXPECT_NO_THROW(check_weights(model_->config, model_->weights, "m"));
}

}  // namespace
}  // namespace puna
