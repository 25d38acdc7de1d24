// SPDX-License-Identifier: Apache-2.0
// The llama.* keys of a GGUF file (ggml/docs/gguf.md). Llama 3.1's RoPE scaling is not a key but a tensor, rope_freqs.weight, of
// divisors for each frequency.
#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/error.h"
#include "model/checkpoint_reading.h"

namespace puna {
namespace {

// A figure that some writers give per layer, as an array: fine where all layers have the same.
std::int64_t uniform_integer(const GgufFile& file, const char* key) {
  const auto entry = file.metadata().find(std::string_view(key));
  const auto* array = entry == file.metadata().end() ? nullptr : std::get_if<GgufArray>(&entry->second);
  if (array == nullptr) return file.integer(key);
  const auto* values = std::get_if<std::vector<std::int64_t>>(array);
  if (values == nullptr || values->empty()) {
    fail(ErrorKind::kBadInput, file.where(), "the key {} is an array, expected whole numbers", key);
  }
  const auto differs = [&](std::int64_t value) { return value != values->front(); };
  if (std::any_of(values->begin(), values->end(), differs)) {
    fail(ErrorKind::kUnsupported, file.where(), "the key {} differs from layer to layer: all layers must have the same", key);
  }
  return values->front();
}

void check_architecture(const GgufFile& file) {
  const std::string_view architecture = file.string("general.architecture");
  if (architecture != "llama") {
    fail(ErrorKind::kUnsupported, file.where(), "the architecture is \"{}\": Puna runs networks of the Llama family (\"llama\")",
         architecture);
  }
  if (const auto experts = file.find_integer("llama.expert_count"); experts.value_or(0) > 0) {
    fail(ErrorKind::kUnsupported, file.where(), "a mixture of {} experts: Puna runs dense Llama networks", *experts);
  }
}

// As llama.cpp reads it: the key, or its older name, and 0 for none.
double linear_factor(const GgufFile& file) {
  const auto factor = file.find_real("llama.rope.scaling.factor");
  const double stated = factor ? *factor : file.find_real("llama.rope.scale_linear").value_or(0);
  return stated == 0 ? 1 : stated;
}

void read_rope(const GgufFile& file, std::span<const Tensor> tensors, ModelConfig& config) {
  const std::int64_t rotated = file.find_integer("llama.rope.dimension_count").value_or(config.head_width);
  if (rotated != config.head_width) {
    fail(ErrorKind::kUnsupported, file.where(), "llama.rope.dimension_count is {}, expected the head width, {}", rotated,
         config.head_width);
  }
  config.rope_theta = file.find_real("llama.rope.freq_base").value_or(10000);
  const std::string_view type = file.find_string("llama.rope.scaling.type").value_or("linear");
  if (type == "linear") {
    config.rope_linear_factor = linear_factor(file);
  } else if (type != "none") {
    fail(ErrorKind::kUnsupported, file.where(), "RoPE scaling \"{}\": \"linear\", \"none\" and a rope_freqs tensor are what runs",
         type);
  }
  for (const Tensor& tensor : tensors) {
    if (tensor.name != "rope_freqs.weight") continue;
    if (tensor.shape != Shape{config.head_width / 2}) {
      fail(ErrorKind::kBadInput, file.where(), "tensor rope_freqs.weight is {}, expected half the head width, [{}]",
           tensor.shape.text(), config.head_width / 2);
    }
    config.rope_divisors.resize(static_cast<std::size_t>(config.head_width / 2));
    decode_row(tensor, 0, config.rope_divisors.data());
  }
}

}  // namespace

ModelConfig gguf_config(const GgufFile& file, std::span<const Tensor> tensors) {
  check_architecture(file);
  ModelConfig config;
  config.name = file.find_string("general.name").value_or("");
  config.layers = file.integer("llama.block_count");
  config.width = file.integer("llama.embedding_length");
  config.heads = uniform_integer(file, "llama.attention.head_count");
  const bool grouped = file.metadata().contains("llama.attention.head_count_kv");
  config.kv_heads = grouped ? uniform_integer(file, "llama.attention.head_count_kv") : config.heads;
  if (config.heads <= 0) {
    fail(ErrorKind::kBadInput, file.where(), "llama.attention.head_count is {}, expected a positive number", config.heads);
  }
  config.head_width = file.find_integer("llama.attention.key_length").value_or(config.width / config.heads);
  const std::int64_t value_width = file.find_integer("llama.attention.value_length").value_or(config.head_width);
  if (value_width != config.head_width) {
    fail(ErrorKind::kUnsupported, file.where(), "llama.attention.value_length is {}, expected the key length, {}", value_width,
         config.head_width);
  }
  config.feed_forward = uniform_integer(file, "llama.feed_forward_length");
  config.context = file.integer("llama.context_length");
  config.norm_eps = file.real("llama.attention.layer_norm_rms_epsilon");
  config.rope_pairing = RopePairing::kNeighbours;
  config.vocabulary = file.find_integer("llama.vocab_size").value_or(0);
  if (config.vocabulary == 0) {  // older writers leave it to the embedding
    for (const Tensor& tensor : tensors) {
      if (tensor.name == "token_embd.weight") config.vocabulary = tensor.shape.rows();
    }
  }
  read_rope(file, tensors, config);
  check_config(config, file.where());
  return config;
}

}  // namespace puna
