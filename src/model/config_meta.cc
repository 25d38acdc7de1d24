// SPDX-License-Identifier: Apache-2.0
// params.json of a Meta folder (llama-models, `ModelArgs`). It leaves out what Meta's code has as constants: the RoPE scaling's
// factor, the context, and for Llama 2 the RoPE base and the vocabulary.
#include <cmath>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/json.h"
#include "model/checkpoint_reading.h"

namespace puna {
namespace {

// model.py: two thirds of 4 D, times the multiplier, both cut to whole numbers, rounded up to a multiple.
std::int64_t feed_forward_width(std::int64_t width, double multiplier, std::int64_t multiple, const std::string& where) {
  if (multiple <= 0 || multiple > width * 64) {
    fail(ErrorKind::kBadInput, where, "multiple_of is {}, expected a positive number near dim ({})", multiple, width);
  }
  if (!std::isfinite(multiplier) || multiplier <= 0 || multiplier > 1000) {
    fail(ErrorKind::kBadInput, where, "ffn_dim_multiplier is {}, expected a number near 1", multiplier);
  }
  const auto two_thirds = static_cast<double>(static_cast<std::int64_t>(2.0 * 4.0 * static_cast<double>(width) / 3.0));
  const auto hidden = static_cast<std::int64_t>(multiplier * two_thirds);
  return (hidden + multiple - 1) / multiple * multiple;
}

// The published 3.2 text models stretch by 32, as their Hugging Face configs state; their params.json says only use_scaled_rope.
double scaling_factor(const ModelConfig& config) {
  for (const char* name : {"1b", "3b"}) {
    const ModelConfig shape = *known_shape(name);
    if (config.layers == shape.layers && config.width == shape.width && config.heads == shape.heads) return 32;
  }
  return 8;
}

std::int64_t default_context(const ModelConfig& config) {
  if (config.rope_scaling) return 131072;
  if (config.rope_theta >= 1e6) return 16384;  // Code Llama
  return config.rope_theta > 10000 ? 8192 : 4096;
}

void refuse_other_networks(const Json& json, const std::string& where) {
  if (json_or<std::int64_t>(json, "vision_chunk_size", -1, where) > 0 || json.contains("vision_model")) {
    fail(ErrorKind::kUnsupported, where, "this is a vision model: Puna runs text models of the Llama family");
  }
  if (json.contains("moe_args") && !json["moe_args"].is_null()) {
    fail(ErrorKind::kUnsupported, where, "this is a mixture of experts (moe_args): Puna runs dense Llama networks");
  }
  if (json.contains("quantization_args") && !json["quantization_args"].is_null()) {
    const Json& arguments = json["quantization_args"];
    const std::string scheme = json_or<std::string>(arguments, "scheme", "", where);
    if (!scheme.empty() && scheme != "fp8_mixed") {
      fail(ErrorKind::kUnsupported, where, "quantization scheme \"{}\": of Meta's folders bfloat16 and FP8 run", scheme);
    }
  }
}

}  // namespace

ModelConfig parse_meta_params(std::string_view text, const std::string& where) {
  const Json json = parse_json(text, where);
  if (!json.is_object()) fail(ErrorKind::kBadInput, where, "the file is {}, expected an object", json.type_name());
  refuse_other_networks(json, where);
  ModelConfig config;
  config.width = json_at<std::int64_t>(json, "dim", where);
  config.layers = json_at<std::int64_t>(json, "n_layers", where);
  config.heads = json_at<std::int64_t>(json, "n_heads", where);
  config.kv_heads = json_or<std::int64_t>(json, "n_kv_heads", config.heads, where);
  const bool plausible = config.width > 0 && config.heads > 0 && config.width < std::int64_t{1} << 31;
  if (!plausible || config.width % config.heads != 0) {
    fail(ErrorKind::kBadInput, where, "dim is {} and n_heads is {}: expected positive numbers, dim a multiple of n_heads",
         config.width, config.heads);
  }
  config.head_width = config.width / config.heads;
  config.vocabulary = json_or<std::int64_t>(json, "vocab_size", -1, where);
  if (config.vocabulary == -1) config.vocabulary = 0;
  config.norm_eps = json_or<double>(json, "norm_eps", 1e-5, where);
  config.rope_theta = json_or<double>(json, "rope_theta", 10000.0, where);
  config.rope_pairing = RopePairing::kNeighbours;
  if (json_or<bool>(json, "use_scaled_rope", false, where)) {
    RopeScaling scaling;
    scaling.factor = json_or<double>(json, "rope_scaling_factor", scaling_factor(config), where);
    scaling.high_frequency_factor = json_or<double>(json, "rope_high_freq_factor", scaling.high_frequency_factor, where);
    config.rope_scaling = scaling;
  }
  if (json.contains("multiple_of")) {
    const double multiplier = json_or<double>(json, "ffn_dim_multiplier", 1.0, where);
    config.feed_forward = feed_forward_width(config.width, multiplier, json_at<std::int64_t>(json, "multiple_of", where), where);
  }
  config.context = json_or<std::int64_t>(json, "max_seq_len", default_context(config), where);
  ModelConfig complete = config;  // the tensors fill in what is 0 here
  if (complete.vocabulary == 0) complete.vocabulary = 1;
  if (complete.feed_forward == 0) complete.feed_forward = 1;
  check_config(complete, where);
  return config;
}

}  // namespace puna
