// SPDX-License-Identifier: Apache-2.0
// The mixes against what llama.cpp's quantizer chose (tools/golden/make_mixes.py), tensor by tensor.
#include "quant/mix.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "shared_data.h"

namespace puna {
namespace {

using ::testing::HasSubstr;

ModelConfig config_of(const Json& shape) {
  ModelConfig config;
  config.layers = shape["layers"];
  config.width = shape["width"];
  config.heads = shape["heads"];
  config.kv_heads = shape["kv_heads"];
  config.head_width = config.width / config.heads;
  config.feed_forward = shape["feed_forward"];
  config.vocabulary = shape["vocabulary"];
  config.tied_embeddings = shape["tied"];
  return config;
}

// One word for all layers, or one for each.
std::string word(const std::string& words, std::int64_t index) {
  if (words.find(' ') == std::string::npos) return words;
  std::istringstream stream(words);
  std::string found;
  for (std::int64_t i = 0; i <= index; ++i) stream >> found;
  return found;
}

class MixTest : public ::testing::TestWithParam<std::string> {};

TEST_P(MixTest, EveryTensorHasTheFormatThatLlamaCppChooses) {
  const Json golden_mixes = parse_json(read_text(golden("quant/mixes.json")), "mixes.json");
  const Json& model = golden_mixes[GetParam()];
  const ModelConfig config = config_of(model["shape"]);
  int compared = 0;
  for (const QuantType& type : quant_types()) {
    if (type.base == Format::kF8E4M3) continue;
    const Json& types = model["types"][std::string(type.name)];
    for (const WeightRoleInfo& row : weight_roles()) {
      if (row.role == WeightRole::kOutput && config.tied_embeddings) continue;
      std::string name(row.gguf.substr(0, row.gguf.rfind('.')));
      if (row.per_layer) name = name.substr(name.rfind('.') + 1);
      for (std::int64_t layer = 0; layer < (row.per_layer ? config.layers : 1); ++layer) {
        const std::string expected = word(types.at(name).get<std::string>(), layer);
        EXPECT_EQ(info(mixed_format(type, config, row.role, layer)).name, expected) << type.name << " " << name << " " << layer;
        ++compared;
      }
    }
  }
  EXPECT_GE(compared, 13 * 3 * 9);
}

INSTANTIATE_TEST_SUITE_P(Shapes, MixTest, ::testing::Values("1b", "3b", "8b", "70b", "65b", "narrow", "narrow_untied", "odd"),
                         [](const auto& shape) { return shape.param; });

TEST(Mix, Fp8KeepsTheFirstAndTheLastLayerAndAllButTheFeedForward) {
  const ModelConfig config = *known_shape("8b");
  const QuantType& type = quant_type("fp8");
  for (const WeightRoleInfo& row : weight_roles()) {
    const bool feed_forward = row.role == WeightRole::kGate || row.role == WeightRole::kUp || row.role == WeightRole::kDown;
    for (const std::int64_t layer : {0, 1, 15, 30, 31}) {
      const bool inner = layer > 0 && layer < 31;
      EXPECT_EQ(mixed_format(type, config, row.role, layer), feed_forward && inner ? Format::kF8E4M3 : Format::kBF16);
    }
  }
}

TEST(Mix, NamesAreFoundInAnyCase) {
  EXPECT_EQ(quant_type("Q4_K_M").gguf_file_type, 15);
  EXPECT_EQ(quant_type("bf16").gguf_file_type, 32);
}

TEST(Mix, AnUnknownNameIsRefusedWithTheNearest) {
  try {
    quant_type("q4_km");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    EXPECT_THAT(error.what(), HasSubstr("[--type] 'q4_km' is not a type, expected one of f32, f16, bf16, q8_0"));
    EXPECT_THAT(error.what(), HasSubstr("did you mean q4_k_m?"));
  }
  try {
    quant_type("nonsense");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::Not(HasSubstr("did you mean")));
  }
}

}  // namespace
}  // namespace puna
