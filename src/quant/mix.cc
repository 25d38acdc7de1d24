// SPDX-License-Identifier: Apache-2.0
// The rules of llama.cpp's quantizer that reach the dense Llama architecture, without an importance matrix. The two that surprise:
// a token embedding that is also the output matrix gets the output's format, and a network of 80 layers with grouped heads is taken
// for Llama 70B, whose small value matrices get more bits.
#include "quant/mix.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <string>
#include <vector>

#include "base/error.h"

namespace puna {
namespace {

constexpr std::array kTypes = {
    QuantType{"f32", Format::kF32, 0, "32-bit floats"},
    QuantType{"f16", Format::kF16, 1, "16-bit floats"},
    QuantType{"bf16", Format::kBF16, 32, "bfloat16, as Llama models are published"},
    QuantType{"q8_0", Format::kQ8_0, 7, "8.5 bits: hardly to be told from the original"},
    QuantType{"q4_0", Format::kQ4_0, 2, "4.5 bits: an early format; q4_k_s is better at its size"},
    QuantType{"q4_1", Format::kQ4_1, 3, "5 bits: an early format; q4_k_m is better at its size"},
    QuantType{"q5_0", Format::kQ5_0, 8, "5.5 bits: an early format; q5_k_s is better at its size"},
    QuantType{"q5_1", Format::kQ5_1, 9, "6 bits: an early format; q5_k_m is better at its size"},
    QuantType{"q4_k_s", Format::kQ4_K, 14, "4.6 bits: small", MixSize::kSmall},
    QuantType{"q4_k_m", Format::kQ4_K, 15, "4.9 bits: the usual choice", MixSize::kMedium},
    QuantType{"q5_k_s", Format::kQ5_K, 16, "5.5 bits", MixSize::kSmall},
    QuantType{"q5_k_m", Format::kQ5_K, 17, "5.7 bits: little loss", MixSize::kMedium},
    QuantType{"q6_k", Format::kQ6_K, 18, "6.6 bits: very little loss"},
    QuantType{"fp8", Format::kF8E4M3, -1,
              "8-bit floats for the feed-forward matrices, bfloat16 for the rest: a Hugging Face folder"},
};

// Insertions, deletions and replacements that turn one word into the other.
std::size_t edits(std::string_view from, std::string_view to) {
  std::vector<std::size_t> costs(to.size() + 1);  // of turning the part of `from` read so far into each prefix of `to`
  for (std::size_t j = 0; j <= to.size(); ++j) costs[j] = j;
  for (std::size_t i = 0; i < from.size(); ++i) {
    std::size_t diagonal = costs[0];
    costs[0] = i + 1;
    for (std::size_t j = 0; j < to.size(); ++j) {
      const std::size_t replaced = diagonal + (from[i] == to[j] ? 0 : 1);
      diagonal = costs[j + 1];
      costs[j + 1] = std::min({replaced, costs[j] + 1, diagonal + 1});
    }
  }
  return costs.back();
}

[[noreturn]] void refuse_name(const std::string& name) {
  std::string names, nearest;
  std::size_t fewest = 3;  // more than two errors are another word
  for (const QuantType& type : kTypes) {
    names += (names.empty() ? "" : ", ") + std::string(type.name);
    const std::size_t errors = edits(name, type.name);
    if (errors < fewest) fewest = errors, nearest = type.name;
  }
  const std::string hint = nearest.empty() ? "" : "; did you mean " + nearest + "?";
  fail(ErrorKind::kUsage, "--type", "'{}' is not a type, expected one of {}{}", name, names, hint);
}

// The first and last eighth of the layers, and every third between.
bool deserves_more_bits(std::int64_t layer, std::int64_t layers) {
  return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

// llama.cpp tells Llama 2 and 3 70B from the first 65B by the grouped heads.
bool is_seventy_billion(const ModelConfig& config) { return config.layers == 80 && config.heads != config.kv_heads; }

Format output_format(Format base, std::int64_t row) {
  if (base == Format::kQ8_0 || row % info(base).block_values != 0) return Format::kQ8_0;
  return Format::kQ6_K;
}

Format value_format(const QuantType& type, const ModelConfig& config, std::int64_t layer) {
  constexpr std::int64_t kFirstLayers = 4;
  Format format = type.base;
  if (type.size == MixSize::kMedium && deserves_more_bits(layer, config.layers)) format = Format::kQ6_K;
  if (type.size == MixSize::kSmall && format == Format::kQ4_K && layer < kFirstLayers) format = Format::kQ5_K;
  return format == Format::kQ4_K && is_seventy_billion(config) ? Format::kQ5_K : format;
}

Format down_format(const QuantType& type, const ModelConfig& config, std::int64_t layer) {
  if (type.size == MixSize::kMedium && deserves_more_bits(layer, config.layers)) return Format::kQ6_K;
  const bool early = layer < config.layers / 8;
  return type.size == MixSize::kSmall && type.base == Format::kQ4_K && early ? Format::kQ5_K : type.base;
}

Format fitting_format(Format format, std::int64_t row) {
  if (row % info(format).block_values == 0) return format;
  Format smaller = format;
  if (format == Format::kQ4_K) smaller = Format::kQ5_0;
  if (format == Format::kQ5_K) smaller = Format::kQ5_1;
  if (format == Format::kQ6_K) smaller = Format::kQ8_0;
  return row % info(smaller).block_values == 0 ? smaller : Format::kF16;
}

Format fp8_format(const ModelConfig& config, WeightRole role, std::int64_t layer) {
  const bool feed_forward = role == WeightRole::kGate || role == WeightRole::kUp || role == WeightRole::kDown;
  return feed_forward && layer > 0 && layer < config.layers - 1 ? Format::kF8E4M3 : Format::kBF16;
}

}  // namespace

bool is_norm(WeightRole role) {
  return role == WeightRole::kAttentionNorm || role == WeightRole::kFeedForwardNorm || role == WeightRole::kOutputNorm;
}

std::span<const QuantType> quant_types() { return kTypes; }

const QuantType& quant_type(std::string_view name) {
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (const QuantType& type : kTypes) {
    if (type.name == lower) return type;
  }
  refuse_name(lower);
}

Format mixed_format(const QuantType& type, const ModelConfig& config, WeightRole role, std::int64_t layer) {
  if (type.base == Format::kF8E4M3) return fp8_format(config, role, layer);
  if (is_norm(role)) return Format::kF32;
  if (info(type.base).block_values == 1) return type.base;
  const std::int64_t row = weight_shape(config, role).row_length();
  Format format = type.base;
  if (role == WeightRole::kOutput || (role == WeightRole::kTokenEmbedding && config.tied_embeddings)) {
    format = output_format(type.base, row);
  } else if (role == WeightRole::kValue) {
    format = value_format(type, config, layer);
  } else if (role == WeightRole::kDown) {
    format = down_format(type, config, layer);
  }
  return fitting_format(format, row);
}

}  // namespace puna
