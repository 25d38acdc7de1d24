// SPDX-License-Identifier: Apache-2.0
// GGUF files: what the keys become, split sets, and files that no Llama network can come from.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "checkpoint_fixture.h"
#include "model/checkpoint.h"
#include "tensor/gguf.h"

namespace puna {
namespace {

namespace fs = std::filesystem;
using Type = GgufScalar::Type;

GgufScalar u32(std::int64_t value) { return {Type::kU32, value}; }
GgufScalar f32(double value) { return {Type::kF32, value}; }
GgufScalar text(const std::string& value) { return {Type::kString, value}; }

class GgufCheckpoint : public CheckpointTest {
 protected:
  struct Parts {
    std::map<std::string, GgufWriteValue> metadata;
    std::vector<Tensor> tensors;
    std::vector<std::vector<float>> memory;
  };
  // tests/golden/model/scaled/bf16.gguf, changed and written again.
  fs::path with(const std::function<void(Parts&)>& change, const std::string& name = "m.gguf") {
    const GgufFile original(golden("model/scaled/bf16.gguf"));
    Parts parts;
    for (const auto& [key, value] : original.metadata()) {
      if (const auto* number = std::get_if<std::int64_t>(&value)) parts.metadata[key] = u32(*number);
      if (const auto* real = std::get_if<double>(&value)) parts.metadata[key] = f32(*real);
      if (const auto* string = std::get_if<std::string_view>(&value)) parts.metadata[key] = text(std::string(*string));
    }
    parts.tensors = original.tensors();
    change(parts);
    GgufPlan plan{{parts.metadata.begin(), parts.metadata.end()}, {}};
    for (const Tensor& tensor : parts.tensors) plan.tensors.push_back({tensor.name, tensor.format, tensor.shape});
    write_gguf(folder_ / name, plan, [&](std::size_t i) { return parts.tensors[i].bytes; });
    return folder_ / name;
  }
  void refuses(ErrorKind kind, const std::string& message, const std::function<void(Parts&)>& change) {
    SCOPED_TRACE(message);
    const fs::path path = with(change);
    expect_error(kind, message, [&] { open_checkpoint(path); });
  }
  static void add(Parts& parts, const std::string& name, Shape shape, float value) {
    parts.memory.emplace_back(static_cast<std::size_t>(shape.count()), value);
    parts.tensors.push_back({name, Format::kF32, shape, std::as_bytes(std::span(parts.memory.back())), {}});
  }
  static void drop(Parts& parts, const std::string& name) {
    std::erase_if(parts.tensors, [&](const Tensor& tensor) { return tensor.name == name; });
  }
};

TEST_F(GgufCheckpoint, KeysBecomeTheConfig) {
  const auto checkpoint = open_checkpoint(golden("model/scaled/bf16.gguf"));
  const ModelConfig& config = checkpoint->config;
  EXPECT_EQ(config.name, "golden");
  EXPECT_EQ(config.layers, 2);
  EXPECT_EQ(config.kv_heads, 2);
  EXPECT_EQ(config.head_width, 8);
  EXPECT_EQ(config.context, 131072);
  EXPECT_FLOAT_EQ(static_cast<float>(config.norm_eps), 1e-5f);
  EXPECT_FALSE(config.tied_embeddings);
  EXPECT_EQ(config.rope_pairing, RopePairing::kNeighbours);
  EXPECT_EQ(config.rope_divisors.size(), 4u);
  ModelConfig hf = open_checkpoint(golden("model/scaled/hf"))->config;  // the same, from the other file's words
  const std::vector<double> a = rope_frequencies(config), b = rope_frequencies(hf);
  for (std::size_t p = 0; p < 4; ++p) EXPECT_NEAR(a[p] / b[p], 1, 1e-7);
}

TEST_F(GgufCheckpoint, OptionalKeysHaveTheirDefaults) {
  const fs::path path = with([](Parts& parts) {
    for (const char* key : {"llama.vocab_size", "llama.rope.dimension_count", "llama.rope.freq_base", "general.name"}) {
      parts.metadata.erase(key);
    }
    parts.metadata["llama.rope.scaling.type"] = text("none");
    parts.metadata["llama.feed_forward_length"] = std::vector<std::int32_t>{64, 64};
    parts.metadata["llama.attention.head_count_kv"] = std::vector<std::int32_t>{2, 2};
    drop(parts, "rope_freqs.weight");
    drop(parts, "output.weight");
    add(parts, "blk.0.attn_rot_embd.weight", {4}, 1);
  });
  const auto checkpoint = open_checkpoint(path);
  EXPECT_EQ(checkpoint->config.name, "m");
  EXPECT_EQ(checkpoint->config.vocabulary, 64);
  EXPECT_EQ(checkpoint->config.rope_theta, 10000);
  EXPECT_TRUE(checkpoint->config.tied_embeddings);
  EXPECT_TRUE(checkpoint->config.rope_divisors.empty());
  EXPECT_EQ(open_checkpoint(golden("model/wide/bf16.gguf"))->config.rope_linear_factor, 4);
}

TEST_F(GgufCheckpoint, ScalingIsLinearWhereNoTypeIsGiven) {
  const auto factor = [&](const std::map<std::string, GgufWriteValue>& keys) {
    const fs::path path = with([&](Parts& parts) {
      parts.metadata.erase("llama.rope.scaling.type");
      for (const auto& [key, value] : keys) parts.metadata["llama.rope." + key] = value;
    });
    return open_checkpoint(path)->config.rope_linear_factor;
  };
  EXPECT_EQ(factor({}), 1);
  EXPECT_EQ(factor({{"scaling.factor", f32(4)}}), 4);
  EXPECT_EQ(factor({{"scale_linear", f32(2)}}), 2);
  EXPECT_EQ(factor({{"scaling.factor", f32(4)}, {"scale_linear", f32(2)}}), 4);
  EXPECT_EQ(factor({{"scaling.factor", f32(0)}}), 1);
  EXPECT_EQ(factor({{"scaling.type", text("linear")}, {"scale_linear", f32(2)}}), 2);
  EXPECT_EQ(factor({{"scaling.type", text("linear")}}), 1);
  EXPECT_EQ(factor({{"scaling.type", text("none")}, {"scaling.factor", f32(4)}}), 1);
}

TEST_F(GgufCheckpoint, OtherNetworksAreRefusedByName) {
  const auto no = ErrorKind::kUnsupported;
  const auto set = [](const char* key, GgufWriteValue value) { return [=](Parts& parts) { parts.metadata[key] = value; }; };
  refuses(no, "the architecture is \"qwen2\": Puna runs networks of the Llama family", set("general.architecture", text("qwen2")));
  refuses(no, "a mixture of 8 experts", set("llama.expert_count", u32(8)));
  refuses(no, "RoPE scaling \"yarn\"", set("llama.rope.scaling.type", text("yarn")));
  refuses(no, "llama.rope.dimension_count is 4, expected the head width, 8", set("llama.rope.dimension_count", u32(4)));
  refuses(no, "llama.attention.value_length is 16, expected the key length, 8", set("llama.attention.value_length", u32(16)));
  refuses(no, "llama.feed_forward_length differs from layer to layer",
          set("llama.feed_forward_length", std::vector<std::int32_t>{64, 32}));
  refuses(no, "tensor blk.0.attn_q.bias (a bias)", [](Parts& parts) { add(parts, "blk.0.attn_q.bias", {32}, 0); });
  refuses(no, "tensor blk.0.ffn_gate_exps.weight (an expert)", [](Parts& parts) {
    add(parts, "blk.0.ffn_gate_exps.weight", {2, 32}, 0);
  });
}

TEST_F(GgufCheckpoint, DamagedFilesAreRefusedByName) {
  const auto bad = ErrorKind::kBadInput;
  const auto set = [](const char* key, GgufWriteValue value) { return [=](Parts& parts) { parts.metadata[key] = value; }; };
  const auto unset = [](const char* key) { return [=](Parts& parts) { parts.metadata.erase(key); }; };
  for (const char* key : {"general.architecture", "llama.block_count", "llama.embedding_length", "llama.feed_forward_length",
                          "llama.attention.head_count", "llama.context_length", "llama.attention.layer_norm_rms_epsilon"}) {
    refuses(bad, key, unset(key));
  }
  refuses(bad, "llama.block_count", set("llama.block_count", text("two")));
  refuses(bad, "head_count is 0", set("llama.attention.head_count", u32(0)));
  refuses(bad, "4 attention heads do not divide over 3", set("llama.attention.head_count_kv", u32(3)));
  refuses(bad, "tensor blk.2.attn_norm.weight is missing", set("llama.block_count", u32(3)));
  refuses(bad, "belongs to layer 1, but the config has 1 layers", set("llama.block_count", u32(1)));
  refuses(bad, "tensor token_embd.weight is [64, 32], expected [63, 32]", set("llama.vocab_size", u32(63)));
  refuses(bad, "is an array, expected whole numbers", set("llama.feed_forward_length", std::vector<float>{64, 64}));
  refuses(bad, "the number of layers is 0", set("llama.block_count", u32(0)));
  refuses(bad, "tensor blk.1.ffn_down.weight is missing", [](Parts& parts) { drop(parts, "blk.1.ffn_down.weight"); });
  refuses(bad, "tensor rope_freqs.weight is [8], expected half the head width, [4]", [](Parts& parts) {
    drop(parts, "rope_freqs.weight");
    add(parts, "rope_freqs.weight", {8}, 1);
  });
  for (const float value : {0.0f, std::nanf("")}) {
    refuses(bad, "a RoPE frequency divisor (rope_freqs) is", [=](Parts& parts) {
      drop(parts, "rope_freqs.weight");
      add(parts, "rope_freqs.weight", {4}, value);
    });
  }
  refuses(bad, "tensor output_norm.weight holds NaN or infinity in row 0", [](Parts& parts) {
    drop(parts, "output_norm.weight");
    add(parts, "output_norm.weight", {32}, std::nanf(""));
  });
  refuses(bad, "tensor token_embd.weight is [32, 64], expected [64, 32]", [](Parts& parts) {
    named(parts.tensors, "token_embd.weight").shape = {32, 64};
  });
}

TEST_F(GgufCheckpoint, SplitSetsOpenFromAnyPart) {
  for (const char* part : {"split-00001-of-00002.gguf", "split-00002-of-00002.gguf"}) {
    const auto checkpoint = open_checkpoint(golden("model/scaled") / part);
    EXPECT_EQ(checkpoint->files.size(), 2u);
    EXPECT_EQ(checkpoint->config.layers, 2);
  }
  for (const char* part : {"split-00001-of-00002.gguf", "split-00002-of-00002.gguf"}) {
    fs::copy_file(golden("model/scaled") / part, folder_ / part);
    if (part[10] == '2') continue;
    expect_error(ErrorKind::kNotFound, "[split-00002-of-00002.gguf] is missing: the model is split",
                 [&] { open_checkpoint(folder_ / part); });
  }
  EXPECT_EQ(open_checkpoint(folder_)->files.size(), 2u);  // the folder holds one model
  fs::copy_file(folder_ / "split-00001-of-00002.gguf", folder_ / "split-00002-of-00002.gguf", fs::copy_options::overwrite_existing);
  expect_error(ErrorKind::kBadInput, "[split-00002-of-00002.gguf] split.no is 0, expected 1",
               [&] { open_checkpoint(folder_ / "split-00001-of-00002.gguf"); });
  fs::rename(folder_ / "split-00001-of-00002.gguf", folder_ / "renamed.gguf");
  expect_error(ErrorKind::kBadInput, "one of 2 parts, but its name is not NAME-00001-of-00002.gguf",
               [&] { open_checkpoint(folder_ / "renamed.gguf"); });
}

TEST_F(GgufCheckpoint, SplitSetsCountTheirTensors) {
  const auto half = [](std::size_t part, int tensors) {
    return [=](Parts& parts) {
      parts.metadata["split.count"] = u32(2);
      parts.metadata["split.no"] = u32(static_cast<std::int64_t>(part));
      parts.metadata["split.tensors.count"] = u32(tensors);
      const auto middle = parts.tensors.begin() + 5;
      part == 0 ? parts.tensors.erase(middle, parts.tensors.end()) : parts.tensors.erase(parts.tensors.begin(), middle);
    };
  };
  with(half(1, 30), "n-00002-of-00002.gguf");
  const fs::path first = with(half(0, 30), "n-00001-of-00002.gguf");
  expect_error(ErrorKind::kBadInput, "the parts hold 22 tensors, expected 30 (split.tensors.count)",
               [&] { open_checkpoint(first); });
}

TEST_F(GgufCheckpoint, VocabularyKeysOfAnotherTypeAreRefused) {
  const auto bad = ErrorKind::kBadInput;
  refuses(bad, "tokenizer.ggml.tokens is an array of another type", [](Parts& parts) {
    parts.metadata["tokenizer.ggml.model"] = text("llama");
    parts.metadata["tokenizer.ggml.tokens"] = std::vector<float>{1, 2};
  });
  const fs::path none = with([](Parts& parts) { parts.metadata["tokenizer.ggml.model"] = text("none"); });
  EXPECT_EQ(open_checkpoint(none)->tokenizer, nullptr);
}

TEST_F(GgufCheckpoint, ChatTemplateIsKept) {
  const fs::path path = with([](Parts& parts) { parts.metadata["tokenizer.chat_template"] = text("{{ unknown }}"); });
  EXPECT_EQ(open_checkpoint(path)->chat_template, "{{ unknown }}");
  EXPECT_FALSE(open_checkpoint(path)->prompt_format);
}

TEST(Stories260KCheckpoint, Opens) {
  PUNA_NEEDS_SHARED("stories260K");
  const auto checkpoint = open_checkpoint(shared_data("stories260K/stories260K.gguf"));
  EXPECT_EQ(checkpoint->config.name, "stories260K");
  EXPECT_EQ(checkpoint->config.feed_forward, 172);
  EXPECT_EQ(checkpoint->need_tokenizer().size(), 512);
  EXPECT_EQ(checkpoint->weights.token_embedding.shape, (Shape{512, 64}));
}

}  // namespace
}  // namespace puna
