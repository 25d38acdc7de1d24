// SPDX-License-Identifier: Apache-2.0
#include "quant/hugging_face_export.h"

#include <algorithm>
#include <cstddef>

#include "base/error.h"
#include "base/json.h"
#include "quant/config_figures.h"
#include "quant/folder_tokenizer.h"
#include "quant/mix.h"
#include "quant/rope_export.h"
#include "tensor/atomic_file.h"
#include "tensor/safetensors.h"

namespace puna {
namespace {

namespace fs = std::filesystem;

constexpr double kActivationBound = 1200;  // of the published FP8 folders
constexpr std::string_view kWeightEnding = ".weight";

std::string name_of(const WeightPlan& weight) { return weight_name(weight.role, &WeightRoleInfo::hugging_face, weight.layer); }

Json rope_json(const Checkpoint& in) {
  const ModelConfig& config = in.config;
  const auto scaling = rope_scaling_figures(config, in.where);
  if (scaling && config.rope_linear_factor != 1) {
    fail(ErrorKind::kUnsupported, in.where, "both linear and Llama 3.1's RoPE scaling: config.json can say only one of them");
  }
  if (scaling) {
    return {{"factor", shortest_figure(scaling->factor)},
            {"low_freq_factor", scaling->low_frequency_factor},
            {"high_freq_factor", scaling->high_frequency_factor},
            {"original_max_position_embeddings", scaling->original_context},
            {"rope_type", "llama3"}};
  }
  if (config.rope_linear_factor == 1) return nullptr;
  return {{"factor", shortest_figure(config.rope_linear_factor)}, {"rope_type", "linear"}};
}

// Linear layers that stay as they are, by module name.
Json unconverted_modules(std::span<const WeightPlan> plan) {
  Json names = Json::array();
  for (const WeightPlan& weight : plan) {
    const bool linear = !is_norm(weight.role) && weight.role != WeightRole::kTokenEmbedding;
    if (!linear || weight.format == Format::kF8E4M3) continue;
    std::string name = name_of(weight);
    name.resize(name.size() - kWeightEnding.size());
    names.push_back(name);
  }
  return names;
}

void add_tokens(const Checkpoint& in, Json& config) {
  if (in.tokenizer == nullptr) return;
  if (in.tokenizer->bos()) config["bos_token_id"] = id(*in.tokenizer->bos());
  const std::vector<Token>& ends = in.tokenizer->end_tokens();
  if (ends.size() == 1) config["eos_token_id"] = id(ends.front());
  if (ends.size() < 2) return;
  config["eos_token_id"] = Json::array();
  for (const Token token : ends) config["eos_token_id"].push_back(id(token));
}

struct Shard {
  std::vector<SafetensorsEntry> entries;
  std::vector<const WeightPlan*> sources;  // of each entry; nullptr: the row scales of the one before, or the reward head
  std::int64_t bytes = 0;
};

std::vector<Shard> plan_shards(const Checkpoint& in, std::span<const WeightPlan> plan, std::int64_t limit) {
  std::vector<Shard> shards(1);
  for (const WeightPlan& weight : plan) {
    const Shape& shape = in.weights.at(weight.role, weight.layer).shape;
    const std::int64_t bytes = planned_bytes(in, std::span(&weight, 1));
    if (shards.back().bytes > 0 && shards.back().bytes + bytes > limit) shards.emplace_back();
    Shard& shard = shards.back();
    shard.bytes += bytes;
    shard.entries.push_back({name_of(weight), weight.format, shape});
    shard.sources.push_back(&weight);
    if (weight.format != Format::kF8E4M3) continue;
    shard.entries.push_back({name_of(weight) + "_scale", Format::kF32, Shape{shape.rows(), 1}});
    shard.sources.push_back(nullptr);
  }
  if (in.reward_head) {
    shards.back().entries.push_back({kRewardHead, in.reward_head.format, in.reward_head.shape});
    shards.back().sources.push_back(nullptr);
  }
  return shards;
}

void write_text(const fs::path& path, const std::string& text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

void write_index(const fs::path& folder, const std::vector<Shard>& shards, const std::vector<std::string>& names) {
  Json map = Json::object();
  std::int64_t total = 0;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    total += shards[i].bytes;
    for (const SafetensorsEntry& entry : shards[i].entries) map[entry.name] = names[i];
  }
  const Json index = {{"metadata", {{"total_size", total}}}, {"weight_map", std::move(map)}};
  write_text(folder / "model.safetensors.index.json", index.dump(2) + "\n");
}

std::vector<std::string> shard_names(std::size_t count) {
  if (count == 1) return {"model.safetensors"};
  std::vector<std::string> names;
  for (std::size_t i = 1; i <= count; ++i) names.push_back(fmt::format("model-{:05}-of-{:05}.safetensors", i, count));
  return names;
}

}  // namespace

std::string hugging_face_config_text(const Checkpoint& in, std::span<const WeightPlan> plan) {
  const ModelConfig& config = in.config;
  const char* const architecture = in.reward_head ? "LlamaForSequenceClassification" : "LlamaForCausalLM";
  Json json = {{"architectures", Json::array({architecture})},
               {"attention_bias", false},
               {"attention_dropout", 0.0},
               {"head_dim", config.head_width},
               {"hidden_act", "silu"},
               {"hidden_size", config.width},
               {"initializer_range", 0.02},
               {"intermediate_size", config.feed_forward},
               {"max_position_embeddings", config.context},
               {"mlp_bias", false},
               {"model_type", "llama"},
               {"num_attention_heads", config.heads},
               {"num_hidden_layers", config.layers},
               {"num_key_value_heads", config.kv_heads},
               {"pretraining_tp", 1},
               {"rms_norm_eps", shortest_figure(config.norm_eps)},
               {"rope_scaling", rope_json(in)},
               {"rope_theta", shortest_figure(config.rope_theta)},
               {"tie_word_embeddings", config.tied_embeddings},
               {"use_cache", true},
               {"vocab_size", config.vocabulary}};
  const Format common = common_float_format(in, plan);
  json["torch_dtype"] = common == Format::kF32 ? "float32" : common == Format::kF16 ? "float16" : "bfloat16";
  if (in.reward_head) json["id2label"] = {{"0", "reward"}}, json["label2id"] = {{"reward", 0}};
  add_tokens(in, json);
  const bool fp8 = std::any_of(plan.begin(), plan.end(), [](const WeightPlan& weight) { return weight.format == Format::kF8E4M3; });
  if (fp8) {
    json["quantization_config"] = {{"activation_scale_ub", kActivationBound},
                                   {"modules_to_not_convert", unconverted_modules(plan)},
                                   {"quant_method", "fbgemm_fp8"}};
  }
  return json.dump(2) + "\n";
}

void write_hugging_face_checkpoint(const fs::path& folder, const Checkpoint& in, std::span<const WeightPlan> plan,
                                   WeightEncoder& encoder, std::vector<std::string>& notes, std::int64_t shard_bytes) {
  write_text(folder / "config.json", hugging_face_config_text(in, plan));
  write_hugging_face_tokenizer(folder, in, notes);
  const std::vector<Shard> shards = plan_shards(in, plan, shard_bytes);
  const std::vector<std::string> names = shard_names(shards.size());
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const Shard& shard = shards[i];
    write_safetensors(folder / names[i], shard.entries, {{"format", "pt"}}, [&](std::size_t index) {
      if (shard.entries[index].name == kRewardHead) return in.reward_head.bytes;
      return shard.sources[index] == nullptr ? encoder.row_scales() : encoder.encode(*shard.sources[index]);
    });
  }
  if (shards.size() > 1) write_index(folder, shards, names);
}

}  // namespace puna
