// SPDX-License-Identifier: Apache-2.0
// config.json of a Hugging Face folder. Keys that change the network and are not run here are refused by name, not ignored:
// a wrong guess would still produce fluent-looking text.
#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/json.h"
#include "model/checkpoint_reading.h"

namespace puna {
namespace {

void check_architecture(const Json& json, const std::string& where) {
  const std::string type = json_or<std::string>(json, "model_type", "llama", where);
  if (type != "llama") {
    fail(ErrorKind::kUnsupported, where, "model_type is \"{}\": Puna runs networks of the Llama family (model_type \"llama\")",
         type);
  }
  if (!json.contains("architectures") || !json["architectures"].is_array()) return;
  for (const Json& name : json["architectures"]) {
    if (!name.is_string() || name == "LlamaForCausalLM" || name == "LlamaForSequenceClassification") continue;
    fail(ErrorKind::kUnsupported, where, "the architecture is {}: Puna runs LlamaForCausalLM, and reward models",
         name.get<std::string>());
  }
}

void check_variants(const Json& json, const std::string& where) {
  for (const char* bias : {"attention_bias", "mlp_bias"}) {
    if (json_or<bool>(json, bias, false, where)) {
      fail(ErrorKind::kUnsupported, where, "{} is true: networks with biases are not run", bias);
    }
  }
  const std::string activation = json_or<std::string>(json, "hidden_act", "silu", where);
  if (activation != "silu") {
    fail(ErrorKind::kUnsupported, where, "hidden_act is \"{}\": the Llama network has \"silu\"", activation);
  }
  const double rotary = json_or<double>(json, "partial_rotary_factor", 1.0, where);
  if (rotary != 1.0) {
    fail(ErrorKind::kUnsupported, where, "partial_rotary_factor is {}: only whole heads (1) are rotated", rotary);
  }
}

// compressed-tensors describes groups of layers; each must hold 8-bit floats with one scale per row or per matrix.
void check_compressed_tensors(const Json& quantization, const std::string& where) {
  const std::string format = json_or<std::string>(quantization, "format", "float-quantized", where);
  if (format != "float-quantized") {
    fail(ErrorKind::kUnsupported, where, "compressed-tensors of format \"{}\": \"float-quantized\" (FP8) is what runs", format);
  }
  if (!quantization.contains("config_groups") || !quantization["config_groups"].is_object()) {
    fail(ErrorKind::kBadInput, where, "quantization_config has no \"config_groups\"");
  }
  for (const auto& [name, group] : quantization["config_groups"].items()) {
    const std::string place = fmt::format("{} config_groups.{}", where, name);
    if (!group.is_object() || !group.contains("weights")) fail(ErrorKind::kBadInput, place, "the key \"weights\" is missing");
    const Json& weights = group["weights"];
    const std::string type = json_at<std::string>(weights, "type", place);
    const std::int64_t bits = json_at<std::int64_t>(weights, "num_bits", place);
    const std::string strategy = json_or<std::string>(weights, "strategy", "tensor", place);
    if (type != "float" || bits != 8 || (strategy != "channel" && strategy != "tensor")) {
      fail(ErrorKind::kUnsupported, place, "weights are {}-bit {} by {}: 8-bit float by channel or by tensor is what runs", bits,
           type, strategy);
    }
  }
}

bool read_quantization(const Json& json, const std::string& where) {
  if (!json.contains("quantization_config") || json["quantization_config"].is_null()) return false;
  const Json& quantization = json["quantization_config"];
  const std::string method = json_at<std::string>(quantization, "quant_method", where);
  if (method == "compressed-tensors") {
    check_compressed_tensors(quantization, where);
  } else if (method != "fbgemm_fp8") {
    fail(
        ErrorKind::kUnsupported, where,
        "quant_method is \"{}\": of quantized folders fbgemm_fp8 and compressed-tensors (FP8) run; take the unquantized model, and "
        "quantize it with puna quantize",
        method);
  }
  return true;
}

void read_rope(const Json& json, ModelConfig& config, const std::string& where) {
  // Newer files hold everything in "rope_parameters", older ones rope_theta beside "rope_scaling".
  const bool newer = json.contains("rope_parameters") && !json["rope_parameters"].is_null();
  const char* key = newer ? "rope_parameters" : "rope_scaling";
  config.rope_theta = json_or<double>(json, "rope_theta", 10000.0, where);
  if (!json.contains(key) || json[key].is_null()) return;
  const Json& rope = json[key];
  if (!rope.is_object()) fail(ErrorKind::kBadInput, where, "\"{}\" is {}, expected an object", key, rope.type_name());
  config.rope_theta = json_or<double>(rope, "rope_theta", config.rope_theta, where);
  const std::string fallback = json_or<std::string>(rope, "type", "default", where);
  const std::string type = json_or<std::string>(rope, "rope_type", fallback, where);
  if (type == "linear") {
    config.rope_linear_factor = json_at<double>(rope, "factor", where);
  } else if (type == "llama3") {
    RopeScaling scaling;
    scaling.factor = json_at<double>(rope, "factor", where);
    scaling.low_frequency_factor = json_at<double>(rope, "low_freq_factor", where);
    scaling.high_frequency_factor = json_at<double>(rope, "high_freq_factor", where);
    scaling.original_context = json_at<std::int64_t>(rope, "original_max_position_embeddings", where);
    config.rope_scaling = scaling;
  } else if (type != "default") {
    fail(ErrorKind::kUnsupported, where, "RoPE scaling \"{}\": \"llama3\", \"linear\" and \"default\" are what runs", type);
  }
}

}  // namespace

HuggingFaceConfig parse_hugging_face_config(std::string_view text, const std::string& where) {
  const Json json = parse_json(text, where);
  if (!json.is_object()) fail(ErrorKind::kBadInput, where, "the file is {}, expected an object", json.type_name());
  check_architecture(json, where);
  check_variants(json, where);
  HuggingFaceConfig result;
  result.fp8 = read_quantization(json, where);
  ModelConfig& config = result.model;
  config.layers = json_at<std::int64_t>(json, "num_hidden_layers", where);
  config.width = json_at<std::int64_t>(json, "hidden_size", where);
  config.heads = json_at<std::int64_t>(json, "num_attention_heads", where);
  config.kv_heads = json_or<std::int64_t>(json, "num_key_value_heads", config.heads, where);
  if (config.heads <= 0) fail(ErrorKind::kBadInput, where, "num_attention_heads is {}, expected a positive number", config.heads);
  config.head_width = json_or<std::int64_t>(json, "head_dim", config.width / config.heads, where);
  config.feed_forward = json_at<std::int64_t>(json, "intermediate_size", where);
  config.vocabulary = json_at<std::int64_t>(json, "vocab_size", where);
  config.context = json_or<std::int64_t>(json, "max_position_embeddings", 2048, where);
  config.norm_eps = json_or<double>(json, "rms_norm_eps", 1e-6, where);
  config.tied_embeddings = json_or<bool>(json, "tie_word_embeddings", false, where);
  config.rope_pairing = RopePairing::kHalves;
  read_rope(json, config, where);
  check_config(config, where);
  return result;
}

}  // namespace puna
