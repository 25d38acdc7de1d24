// SPDX-License-Identifier: Apache-2.0
// Hugging Face folders that are whole, and damaged ones.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "checkpoint_fixture.h"
#include "model/checkpoint.h"
#include "tensor/half.h"

namespace puna {
namespace {

namespace fs = std::filesystem;

class HuggingFaceCheckpoint : public CheckpointTest {
 protected:
  void refuses(ErrorKind kind, const std::string& text, const fs::path& path) {
    expect_error(kind, text, [&] { open_checkpoint(path); });
  }
  template <typename Change>
  void refuses_json(ErrorKind kind, const std::string& text, const std::string& name, const std::string& file, Change&& change) {
    const fs::path path = with_json(name, file, change);
    refuses(kind, text, path);
    fs::remove_all(path);
  }
  template <typename Change>
  void refuses_tensors(ErrorKind kind, const std::string& text, const std::string& name, Change&& change) {
    const fs::path path = with_tensors(name, "model.safetensors", change);
    refuses(kind, text, path);
    fs::remove_all(path);
  }
};

TEST_F(HuggingFaceCheckpoint, SaysWhatItOpened) {
  const auto checkpoint = open_checkpoint(golden("model/scaled/hf_sharded"));
  EXPECT_EQ(checkpoint->kind, CheckpointKind::kHuggingFace);
  EXPECT_EQ(checkpoint->files.size(), 3u);
  EXPECT_EQ(checkpoint->config.name, "hf_sharded");
  EXPECT_EQ(checkpoint->weight_bytes, 2 * checkpoint->config.parameters());
  EXPECT_EQ(checkpoint->weights.layers[1].up.format, Format::kBF16);
  EXPECT_EQ(checkpoint->tokenizer, nullptr);
  EXPECT_EQ(checkpoint->config.rope_pairing, RopePairing::kHalves);
}

TEST_F(HuggingFaceCheckpoint, ShardsThatAreMissingOrMisfiled) {
  const std::string index = "model.safetensors.index.json", second = "model-00002-of-00003.safetensors";
  const fs::path sharded = copy("scaled/hf_sharded");
  fs::rename(sharded / second, folder_ / second);
  refuses(ErrorKind::kNotFound,
          "[model-00002-of-00003.safetensors] is missing: model.safetensors.index.json names it; run puna pull", sharded);
  fs::rename(folder_ / second, sharded / second);
  fs::remove(sharded / index);
  refuses(ErrorKind::kNotFound, "model.safetensors.index.json is missing, which says what the 3 safetensors files hold", sharded);
  fs::remove_all(sharded);
  const auto bad = ErrorKind::kBadInput;
  refuses_json(bad, "the key \"weight_map\" is missing", "scaled/hf_sharded", index, [](Json& json) { json.erase("weight_map"); });
  refuses_json(bad, "the key \"weight_map\" is missing", "scaled/hf_sharded", index, [](Json& json) { json = Json::array(); });
  refuses_json(bad, "is \"../x.safetensors\", expected a name in the same folder", "scaled/hf_sharded", index,
               [](Json& json) { json["weight_map"]["model.norm.weight"] = "../x.safetensors"; });
  refuses_json(bad, "the file of tensor model.norm.weight is number", "scaled/hf_sharded", index,
               [](Json& json) { json["weight_map"]["model.norm.weight"] = 3; });
  refuses_json(bad, "[model-00001-of-00003.safetensors] tensor lm_head.weight is missing, which", "scaled/hf_sharded", index,
               [](Json& json) { json["weight_map"]["lm_head.weight"] = "model-00001-of-00003.safetensors"; });
  refuses_json(bad, "tensor model.extra.weight is missing", "scaled/hf_sharded", index,
               [](Json& json) { json["weight_map"]["model.extra.weight"] = "model-00001-of-00003.safetensors"; });
}

TEST_F(HuggingFaceCheckpoint, ConfigsOfAnotherModel) {
  const auto bad = ErrorKind::kBadInput;
  const auto config = [&](const std::string& text, const char* key, Json value) {
    refuses_json(bad, text, "scaled/hf", "config.json", [&](Json& json) { json[key] = value; });
  };
  config("tensor model.layers.0.mlp.gate_proj.weight is [64, 32], expected [96, 32] from the config", "intermediate_size", 96);
  config("tensor model.embed_tokens.weight is [64, 32], expected [65, 32]", "vocab_size", 65);
  config("tensor model.layers.2.input_layernorm.weight is missing", "num_hidden_layers", 3);
  config("belongs to layer 1, but the config has 1 layers", "num_hidden_layers", 1);
  config("tensor model.layers.0.self_attn.k_proj.weight is [16, 32], expected [32, 32]", "num_key_value_heads", 4);
  config("tensor model.layers.0.self_attn.q_proj.weight is [32, 32], expected [64, 32]", "head_dim", 16);
  refuses_json(ErrorKind::kUnsupported, "model_type is \"gemma\"", "scaled/hf", "config.json",
               [](Json& j) { j["model_type"] = "gemma"; });
  const fs::path path = copy("scaled/hf");
  write_text(path / "config.json", "{\"hidden_size\": 32,");
  refuses(bad, "[config.json] not valid JSON at byte", path);
}

TEST_F(HuggingFaceCheckpoint, TensorsThatAreMissingExtraOrOfAnotherKind) {
  refuses_tensors(ErrorKind::kBadInput, "tensor model.layers.1.mlp.up_proj.weight is missing", "scaled/hf", [](auto& tensors) {
    std::erase_if(tensors, [](const Tensor& tensor) { return tensor.name == "model.layers.1.mlp.up_proj.weight"; });
  });
  refuses_tensors(ErrorKind::kBadInput, "tensor lm_head.weight is missing", "scaled/hf", [](auto& tensors) {
    std::erase_if(tensors, [](const Tensor& tensor) { return tensor.name == "lm_head.weight"; });
  });
  const auto renamed = [](const char* from, const char* to) { return [=](auto& tensors) { named(tensors, from).name = to; }; };
  refuses_tensors(ErrorKind::kUnsupported, "tensor model.layers.0.self_attn.q_proj.bias (a bias) is no part of a Llama network",
                  "scaled/hf", renamed("model.norm.weight", "model.layers.0.self_attn.q_proj.bias"));
  refuses_tensors(ErrorKind::kUnsupported, "experts.3.w1.weight (an expert)", "scaled/hf",
                  renamed("model.norm.weight", "model.layers.0.block_sparse_moe.experts.3.w1.weight"));
  refuses_tensors(ErrorKind::kUnsupported, "(an adapter: merge it into the model first)", "scaled/hf",
                  renamed("model.norm.weight", "model.layers.0.self_attn.q_proj.lora_A.weight"));
  refuses_tensors(ErrorKind::kUnsupported, "tensor model.layers.1.mlp.up_proj.weight_scale is no part", "scaled/hf",
                  renamed("model.norm.weight", "model.layers.1.mlp.up_proj.weight_scale"));
  refuses_tensors(ErrorKind::kBadInput, "is there twice", "scaled/hf", renamed("model.norm.weight", "embed_tokens.weight"));
  const std::vector<float> nans(32, std::nanf(""));
  refuses_tensors(ErrorKind::kBadInput, "tensor model.norm.weight holds NaN or infinity", "scaled/hf", [&](auto& tensors) {
    named(tensors, "model.norm.weight").format = Format::kF32;
    named(tensors, "model.norm.weight").bytes = std::as_bytes(std::span(nans));
  });
}

TEST_F(HuggingFaceCheckpoint, NamesWithoutPrefixAndOldExtras) {
  const std::vector<float> frequencies(4, 1.0f);
  const fs::path path = with_tensors("scaled/hf", "model.safetensors", [&](auto& tensors) {
    for (Tensor& tensor : tensors) {
      if (tensor.name.starts_with("model.")) tensor.name = tensor.name.substr(6);
    }
    tensors.push_back({"layers.0.self_attn.rotary_emb.inv_freq", Format::kF32, {4}, std::as_bytes(std::span(frequencies)), {}});
  });
  EXPECT_EQ(open_checkpoint(path)->weight_bytes, open_checkpoint(golden("model/scaled/hf"))->weight_bytes);
}

TEST_F(HuggingFaceCheckpoint, TheEmbeddingRulesWhereTheConfigTies) {
  const fs::path path = with_json("scaled/hf", "config.json", [](Json& json) { json["tie_word_embeddings"] = true; });
  const auto checkpoint = open_checkpoint(path);
  EXPECT_EQ(checkpoint->weights.output.name, "model.embed_tokens.weight");
  EXPECT_TRUE(checkpoint->config.tied_embeddings);
}

TEST_F(HuggingFaceCheckpoint, Fp8ScalesBecomeOneF32PerRow) {
  const auto fbgemm = open_checkpoint(golden("model/fp8/fbgemm"));
  EXPECT_EQ(fbgemm->weights.layers[0].up.format, Format::kBF16);
  EXPECT_EQ(fbgemm->weights.layers[1].up.format, Format::kF8E4M3);
  EXPECT_EQ(fbgemm->weights.layers[1].up.row_scales.size(), 64u * 4);
  const auto compressed = open_checkpoint(golden("model/fp8/compressed"));
  EXPECT_EQ(compressed->weights.layers[0].query.format, Format::kF8E4M3);
  EXPECT_GT(compressed->weights.layers[0].query.row_scale(3), 0);
  const std::vector<std::uint16_t> one = {bf16_from_f32(0.25f)};  // one scale for the whole matrix
  const fs::path path = with_tensors("fp8/compressed", "model.safetensors", [&](auto& tensors) {
    Tensor& scale = named(tensors, "model.layers.0.mlp.up_proj.weight_scale");
    scale.shape = {1}, scale.bytes = std::as_bytes(std::span(one));
  });
  const auto whole = open_checkpoint(path);
  for (const std::int64_t n : {0, 63}) EXPECT_EQ(whole->weights.layers[0].up.row_scale(n), 0.25f);
}

TEST_F(HuggingFaceCheckpoint, Fp8ScalesThatAreMissingOrDamaged) {
  const std::string up = "model.layers.1.mlp.up_proj.weight";
  refuses_tensors(
      ErrorKind::kBadInput, "tensor " + up + " is F8_E4M3, but " + up + "_scale is missing", "fp8/fbgemm",
      [&](auto& tensors) { std::erase_if(tensors, [&](const Tensor& tensor) { return tensor.name == up + "_scale"; }); });
  std::vector<float> scales(64, 0.01f);
  const auto replaced = [&](Shape shape) {
    return [&, shape](auto& tensors) {
      Tensor& scale = named(tensors, up + "_scale");
      scale.shape = shape;
      scale.bytes = std::as_bytes(std::span(scales)).first(static_cast<std::size_t>(shape.count()) * 4);
    };
  };
  refuses_tensors(ErrorKind::kUnsupported, "_scale is [32, 1], expected one scale for each of 64 rows, or one for all",
                  "fp8/fbgemm", replaced({32, 1}));
  scales[9] = std::nanf("");
  refuses_tensors(ErrorKind::kBadInput, "the scale of row 9 of tensor " + up + " is nan", "fp8/fbgemm", replaced({64, 1}));
  refuses_tensors(ErrorKind::kBadInput, "scales a matrix that is bf16", "fp8/fbgemm",
                  [&](auto& tensors) { named(tensors, up + "_scale").name = "model.layers.0.mlp.up_proj.weight_scale"; });
  refuses_tensors(ErrorKind::kUnsupported, "tensor model.layers.7.mlp.up_proj.weight_scale is no part", "fp8/fbgemm",
                  [&](auto& tensors) { named(tensors, up + "_scale").name = "model.layers.7.mlp.up_proj.weight_scale"; });
  refuses_json(ErrorKind::kUnsupported, "weight_scale is no part of a Llama network", "fp8/fbgemm", "config.json",
               [](Json& json) { json.erase("quantization_config"); });
}

TEST_F(HuggingFaceCheckpoint, TruncatedWeights) {
  const fs::path path = copy("scaled/hf") / "model.safetensors";
  fs::resize_file(path, fs::file_size(path) - 100);
  expect_error(ErrorKind::kBadInput, "[model.safetensors]", [&] { open_checkpoint(path.parent_path()); });
}

}  // namespace
}  // namespace puna
