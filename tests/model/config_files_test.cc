// SPDX-License-Identifier: Apache-2.0
// config.json and params.json, read from text.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <tuple>
#include <vector>

#include "checkpoint_fixture.h"
#include "model/checkpoint_reading.h"

namespace puna {
namespace {

// Llama 3.1 8B's config.json, as published.
const char* const kLlama31 = R"({"architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
  "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "hidden_act": "silu", "hidden_size": 4096,
  "initializer_range": 0.02, "intermediate_size": 14336, "max_position_embeddings": 131072, "mlp_bias": false,
  "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "pretraining_tp": 1,
  "rms_norm_eps": 1e-05, "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
  "original_max_position_embeddings": 8192, "rope_type": "llama3"}, "rope_theta": 500000.0, "tie_word_embeddings": false,
  "torch_dtype": "bfloat16", "use_cache": true, "vocab_size": 128256})";

ModelConfig hugging_face(const Json& json) { return parse_hugging_face_config(json.dump(), "config.json").model; }
Json llama31() { return parse_json(kLlama31, "test"); }

TEST(HuggingFaceConfigFile, Llama31IsTheKnownShape) {
  const ModelConfig config = hugging_face(llama31()), shape = *known_shape("8b");
  EXPECT_EQ(config.parameters(), shape.parameters());
  EXPECT_EQ(config.head_width, 128);
  EXPECT_EQ(config.context, 131072);
  EXPECT_EQ(config.rope_scaling, shape.rope_scaling);
  EXPECT_EQ(config.rope_theta, 500000);
  EXPECT_EQ(config.rope_pairing, RopePairing::kHalves);
  EXPECT_EQ(config.norm_eps, 1e-5);
}

TEST(HuggingFaceConfigFile, OptionalKeysHaveTheirDefaults) {
  Json json = llama31();
  for (const char* key :
       {"num_key_value_heads", "rope_theta", "rope_scaling", "tie_word_embeddings", "rms_norm_eps", "architectures"}) {
    json.erase(key);
  }
  const ModelConfig config = hugging_face(json);
  EXPECT_EQ(config.kv_heads, 32);
  EXPECT_EQ(config.rope_theta, 10000);
  EXPECT_EQ(config.norm_eps, 1e-6);
  EXPECT_FALSE(config.rope_scaling);
}

TEST(HuggingFaceConfigFile, RopeParametersOfNewerFiles) {
  Json json = llama31();
  json["rope_parameters"] = json["rope_scaling"];
  json["rope_parameters"]["rope_theta"] = 250000;
  json.erase("rope_scaling");
  json.erase("rope_theta");
  const ModelConfig config = hugging_face(json);
  EXPECT_EQ(config.rope_theta, 250000);
  EXPECT_EQ(config.rope_scaling, RopeScaling{});
  json["rope_parameters"] = {{"type", "linear"}, {"factor", 2}};
  EXPECT_EQ(hugging_face(json).rope_linear_factor, 2);
}

TEST(HuggingFaceConfigFile, WhatIsNotRunIsRefusedByName) {
  const auto kBad = ErrorKind::kBadInput, kNot = ErrorKind::kUnsupported;
  const std::vector<std::tuple<ErrorKind, std::string, std::string>> cases = {
      {kNot, "model_type is \"qwen2\": Puna runs", R"({"model_type": "qwen2"})"},
      {kNot, "LlamaForTokenClassification", R"({"architectures": ["LlamaForTokenClassification"]})"},
      {kNot, "attention_bias is true", R"({"attention_bias": true})"},
      {kNot, "mlp_bias is true", R"({"mlp_bias": true})"},
      {kNot, "hidden_act is \"gelu\"", R"({"hidden_act": "gelu"})"},
      {kNot, "partial_rotary_factor is 0.5", R"({"partial_rotary_factor": 0.5})"},
      {kNot, "RoPE scaling \"yarn\"", R"({"rope_scaling": {"rope_type": "yarn", "factor": 4}})"},
      {kNot, "RoPE scaling \"dynamic\"", R"({"rope_scaling": {"rope_type": null, "type": "dynamic"}})"},
      {kNot, "quant_method is \"gptq\"", R"({"quantization_config": {"quant_method": "gptq", "bits": 4}})"},
      {kNot, "compressed-tensors of format \"pack-quantized\"",
       R"({"quantization_config": {"quant_method": "compressed-tensors", "format": "pack-quantized"}})"},
      {kNot, "8-bit int by channel",
       R"({"quantization_config": {"quant_method": "compressed-tensors", "config_groups":
          {"group_0": {"weights": {"type": "int", "num_bits": 8, "strategy": "channel"}}}}})"},
      {kNot, "8-bit float by block",
       R"({"quantization_config": {"quant_method": "compressed-tensors", "config_groups":
          {"group_0": {"weights": {"type": "float", "num_bits": 8, "strategy": "block"}}}}})"},
      {kBad, "config_groups.group_0] the key \"weights\" is missing",
       R"({"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {"group_0": {}}}})"},
      {kBad, "no \"config_groups\"", R"({"quantization_config": {"quant_method": "compressed-tensors"}})"},
      {kBad, "\"quant_method\" is missing", R"({"quantization_config": {"bits": 4}})"},
      {kBad, "\"hidden_size\" is string, expected a whole number", R"({"hidden_size": "4096"})"},
      {kBad, "\"hidden_size\" is missing", R"({"hidden_size": null})"},
      {kBad, "num_attention_heads is 0", R"({"num_attention_heads": 0})"},
      {kBad, "32 attention heads do not divide over 3", R"({"num_key_value_heads": 3})"},
      {kBad, "the number of layers is -1", R"({"num_hidden_layers": -1})"},
      {kBad, "\"rope_scaling\" is number", R"({"rope_scaling": 8})"},
      {kBad, "\"low_freq_factor\" is missing", R"({"rope_scaling": {"low_freq_factor": null}})"},
  };
  for (const auto& [kind, text, change] : cases) {
    SCOPED_TRACE(change);
    Json json = llama31();
    json.merge_patch(parse_json(change, "test"));
    expect_error(kind, text, [&] { hugging_face(json); });
  }
  expect_error(kBad, "[config.json] not valid JSON", [] { parse_hugging_face_config("{", "config.json"); });
  expect_error(kBad, "the file is array, expected an object", [] { parse_hugging_face_config("[]", "config.json"); });
}

Json meta_8b() {
  return parse_json(R"({"dim": 4096, "n_layers": 32, "n_heads": 32, "n_kv_heads": 8, "vocab_size": 128256,
    "ffn_dim_multiplier": 1.3, "multiple_of": 1024, "norm_eps": 1e-05, "rope_theta": 500000.0, "use_scaled_rope": true})",
                    "test");
}
ModelConfig meta(const Json& json) { return parse_meta_params(json.dump(), "params.json"); }

TEST(MetaParamsFile, PublishedShapes) {
  const ModelConfig config = meta(meta_8b());
  EXPECT_EQ(config.parameters(), known_shape("8b")->parameters());
  EXPECT_EQ(config.rope_scaling, RopeScaling{});
  EXPECT_EQ(config.context, 131072);
  EXPECT_EQ(config.rope_pairing, RopePairing::kNeighbours);
  const auto width = [](std::int64_t dim, double multiplier, std::int64_t multiple) {
    Json json = meta_8b();
    json.update({{"dim", dim}, {"ffn_dim_multiplier", multiplier}, {"multiple_of", multiple}});
    return meta(json).feed_forward;
  };
  EXPECT_EQ(width(8192, 1.3, 4096), 28672);
  EXPECT_EQ(width(16384, 1.2, 4096), 53248);
  EXPECT_EQ(width(2048, 1.5, 256), 8192);
  EXPECT_EQ(width(3072, 1.0, 256), 8192);
}

TEST(MetaParamsFile, SmallModelsOf32StretchBy32) {
  Json json = meta_8b();
  json.update({{"dim", 2048}, {"n_layers", 16}, {"ffn_dim_multiplier", 1.5}, {"multiple_of", 256}});
  EXPECT_EQ(meta(json).rope_scaling->factor, 32);
  json["rope_scaling_factor"] = 16;
  EXPECT_EQ(meta(json).rope_scaling->factor, 16);
}

TEST(MetaParamsFile, Llama2LeavesThingsOut) {
  const ModelConfig config = meta(
      parse_json(R"({"dim": 4096, "multiple_of": 256, "n_heads": 32, "n_layers": 32, "norm_eps": 1e-06, "vocab_size": -1})", "t"));
  EXPECT_EQ(config.feed_forward, 11008);
  EXPECT_EQ(config.kv_heads, 32);
  EXPECT_EQ(config.rope_theta, 10000);
  EXPECT_EQ(config.vocabulary, 0);  // the embedding says
  EXPECT_EQ(config.context, 4096);
  EXPECT_FALSE(config.rope_scaling);
}

TEST(MetaParamsFile, WhatIsNotRunIsRefusedByName) {
  const auto kBad = ErrorKind::kBadInput, kNot = ErrorKind::kUnsupported;
  const std::vector<std::tuple<ErrorKind, std::string, std::string>> cases = {
      {kNot, "vision model", R"({"vision_chunk_size": 448})"},
      {kNot, "mixture of experts", R"({"moe_args": {"num_experts": 16}})"},
      {kNot, "quantization scheme \"int4_weight_int8_dynamic_activation\"",
       R"({"quantization_args": {"scheme": "int4_weight_int8_dynamic_activation"}})"},
      {kBad, "\"dim\" is missing", R"({"dim": null})"},
      {kBad, "dim is 4096 and n_heads is 0", R"({"n_heads": 0})"},
      {kBad, "dim is 4096 and n_heads is 3", R"({"n_heads": 3})"},
      {kBad, "multiple_of is 0", R"({"multiple_of": 0})"},
      {kBad, "multiple_of is 9223372036854775807", R"({"multiple_of": 9223372036854775807})"},
      {kBad, "ffn_dim_multiplier is -1", R"({"ffn_dim_multiplier": -1})"},
      {kBad, "ffn_dim_multiplier is 1e+300", R"({"ffn_dim_multiplier": 1e300})"},
      {kBad, "do not divide over 7 key/value heads", R"({"n_kv_heads": 7})"},
      {kBad, "the vocabulary size is -2", R"({"vocab_size": -2})"},
      {kBad, "\"rope_theta\" is string, expected a number", R"({"rope_theta": "5e5"})"},
  };
  for (const auto& [kind, text, change] : cases) {
    SCOPED_TRACE(change);
    Json json = meta_8b();
    json.merge_patch(parse_json(change, "test"));
    expect_error(kind, text, [&] { meta(json); });
  }
  expect_error(kBad, "the file is null, expected an object", [] { parse_meta_params("null", "params.json"); });
}

}  // namespace
}  // namespace puna
