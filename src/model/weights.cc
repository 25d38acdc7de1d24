// SPDX-License-Identifier: Apache-2.0
// The table of roles and names, and the checks that stand between a file's tensors and the kernels.
#include "model/weights.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <utility>

#include "base/error.h"

namespace puna {
namespace {

using enum WeightRole;

constexpr std::array kRoles = {
    WeightRoleInfo{kTokenEmbedding, false, "token_embd.weight", "model.embed_tokens.weight", "tok_embeddings.weight",
                   ShardAxis::kRows},
    WeightRoleInfo{kAttentionNorm, true, "blk.{}.attn_norm.weight", "model.layers.{}.input_layernorm.weight",
                   "layers.{}.attention_norm.weight", ShardAxis::kNone},
    WeightRoleInfo{kQuery, true, "blk.{}.attn_q.weight", "model.layers.{}.self_attn.q_proj.weight", "layers.{}.attention.wq.weight",
                   ShardAxis::kRows},
    WeightRoleInfo{kKey, true, "blk.{}.attn_k.weight", "model.layers.{}.self_attn.k_proj.weight", "layers.{}.attention.wk.weight",
                   ShardAxis::kRows},
    WeightRoleInfo{kValue, true, "blk.{}.attn_v.weight", "model.layers.{}.self_attn.v_proj.weight", "layers.{}.attention.wv.weight",
                   ShardAxis::kRows},
    WeightRoleInfo{kAttentionOutput, true, "blk.{}.attn_output.weight", "model.layers.{}.self_attn.o_proj.weight",
                   "layers.{}.attention.wo.weight", ShardAxis::kColumns},
    WeightRoleInfo{kFeedForwardNorm, true, "blk.{}.ffn_norm.weight", "model.layers.{}.post_attention_layernorm.weight",
                   "layers.{}.ffn_norm.weight", ShardAxis::kNone},
    WeightRoleInfo{kGate, true, "blk.{}.ffn_gate.weight", "model.layers.{}.mlp.gate_proj.weight",
                   "layers.{}.feed_forward.w1.weight", ShardAxis::kRows},
    WeightRoleInfo{kUp, true, "blk.{}.ffn_up.weight", "model.layers.{}.mlp.up_proj.weight", "layers.{}.feed_forward.w3.weight",
                   ShardAxis::kRows},
    WeightRoleInfo{kDown, true, "blk.{}.ffn_down.weight", "model.layers.{}.mlp.down_proj.weight",
                   "layers.{}.feed_forward.w2.weight", ShardAxis::kColumns},
    WeightRoleInfo{kOutputNorm, false, "output_norm.weight", "model.norm.weight", "norm.weight", ShardAxis::kNone},
    WeightRoleInfo{kOutput, false, "output.weight", "lm_head.weight", "output.weight", ShardAxis::kRows},
};

constexpr bool in_order() {
  for (std::size_t i = 0; i < kRoles.size(); ++i) {
    if (static_cast<std::size_t>(kRoles[i].role) != i) return false;
  }
  return true;
}
static_assert(in_order(), "info() indexes the table by role");

constexpr std::int64_t kWholeScanBytes = std::int64_t{1} << 20;

// The layer between the two halves of "blk.{}.attn_q.weight", or nullopt where `name` is not of that form.
std::optional<std::int64_t> match_layer(std::string_view name, std::string_view pattern) {
  const std::size_t hole = pattern.find("{}");
  const std::string_view before = pattern.substr(0, hole), after = pattern.substr(hole + 2);
  if (name.size() <= before.size() + after.size() || !name.starts_with(before) || !name.ends_with(after)) return std::nullopt;
  const std::string_view digits = name.substr(before.size(), name.size() - before.size() - after.size());
  if (digits.size() > 9 || (digits.size() > 1 && digits[0] == '0')) return std::nullopt;
  std::int64_t layer = 0;
  for (const char digit : digits) {
    if (digit < '0' || digit > '9') return std::nullopt;
    layer = layer * 10 + (digit - '0');
  }
  return layer;
}

bool is_norm(WeightRole role) { return role == kAttentionNorm || role == kFeedForwardNorm || role == kOutputNorm; }

bool all_finite(const Tensor& tensor, std::int64_t row, std::vector<float>& values) {
  decode_row(tensor, row, values.data());
  return std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
}

void check_format(const Tensor& tensor, WeightRole role, const std::string& where) {
  const FormatInfo& format = info(tensor.format);
  const bool plain = format.block_values == 1 && tensor.format != Format::kF8E4M3;
  if (is_norm(role) && !plain) {
    fail(ErrorKind::kUnsupported, where, "tensor {} is {}: a norm must be f32, f16 or bf16", tensor.name, format.name);
  }
  if (tensor.shape.row_length() % format.block_values != 0) {
    fail(ErrorKind::kUnsupported, where, "tensor {} has rows of {} values, expected a multiple of {} for {}", tensor.name,
         tensor.shape.row_length(), format.block_values, format.name);
  }
  const std::int64_t bytes = format_bytes(tensor.format, tensor.shape.count());
  if (static_cast<std::int64_t>(tensor.bytes.size()) != bytes) {
    fail(ErrorKind::kBadInput, where, "tensor {} has {} bytes, expected {} for {} of {}", tensor.name, tensor.bytes.size(), bytes,
         tensor.shape.text(), format.name);
  }
  const std::size_t scale_bytes = static_cast<std::size_t>(tensor.shape.rows()) * sizeof(float);
  if (!tensor.row_scales.empty() && (tensor.format != Format::kF8E4M3 || tensor.row_scales.size() != scale_bytes)) {
    fail(ErrorKind::kBadInput, where, "tensor {} ({} {}) has {} bytes of row scales, expected {}", tensor.name, format.name,
         tensor.shape.text(), tensor.row_scales.size(), scale_bytes);
  }
}

void check_values(const Tensor& tensor, const std::string& where) {
  const std::int64_t rows = tensor.shape.rows();
  if (!tensor.row_scales.empty()) {
    for (std::int64_t n = 0; n < rows; ++n) {
      const float scale = tensor.row_scale(n);
      if (std::isfinite(scale)) continue;
      fail(ErrorKind::kBadInput, where, "the scale of row {} of tensor {} is {}: the file is damaged", n, tensor.name, scale);
    }
  }
  std::vector<float> values(static_cast<std::size_t>(tensor.shape.row_length()));  // [K]
  const bool whole = static_cast<std::int64_t>(tensor.bytes.size()) <= kWholeScanBytes;
  const std::int64_t step = whole ? 1 : std::max<std::int64_t>(1, rows - 1);
  for (std::int64_t n = 0; n < rows; n += step) {
    if (all_finite(tensor, n, values)) continue;
    fail(ErrorKind::kBadInput, where, "tensor {} holds NaN or infinity in row {}: the file is damaged", tensor.name, n);
  }
}

}  // namespace

std::span<const WeightRoleInfo> weight_roles() { return kRoles; }

const WeightRoleInfo& info(WeightRole role) { return kRoles.at(static_cast<std::size_t>(role)); }

std::string weight_name(WeightRole role, NameColumn column, std::int64_t layer) {
  const std::string_view pattern = info(role).*column;
  const std::size_t hole = pattern.find("{}");
  if (hole == std::string_view::npos) return std::string(pattern);
  return fmt::format("{}{}{}", pattern.substr(0, hole), layer, pattern.substr(hole + 2));
}

std::int64_t stored_bytes(const Tensor& weight) {
  return format_bytes(weight.format, weight.shape.count()) + static_cast<std::int64_t>(weight.row_scales.size());
}

std::optional<WeightSlot> find_weight(std::string_view name, NameColumn column) {
  for (const WeightRoleInfo& row : kRoles) {
    if (!row.per_layer) {
      if (name == row.*column) return WeightSlot{row.role};
    } else if (const auto layer = match_layer(name, row.*column)) {
      return WeightSlot{row.role, *layer};
    }
  }
  return std::nullopt;
}

const Tensor& LayerWeights::at(WeightRole role) const {
  switch (role) {
    case kAttentionNorm:
      return attention_norm;
    case kQuery:
      return query;
    case kKey:
      return key;
    case kValue:
      return value;
    case kAttentionOutput:
      return attention_output;
    case kFeedForwardNorm:
      return feed_forward_norm;
    case kGate:
      return gate;
    case kUp:
      return up;
    case kDown:
      return down;
    default:
      fail(ErrorKind::kInternal, "weights", "{} belongs to no layer", info(role).hugging_face);
  }
}

Tensor& LayerWeights::at(WeightRole role) { return const_cast<Tensor&>(std::as_const(*this).at(role)); }

const Tensor& ModelWeights::at(WeightRole role, std::int64_t layer) const {
  if (role == kTokenEmbedding) return token_embedding;
  if (role == kOutputNorm) return output_norm;
  if (role == kOutput) return output;
  return layers.at(static_cast<std::size_t>(layer)).at(role);
}

Tensor& ModelWeights::at(WeightRole role, std::int64_t layer) { return const_cast<Tensor&>(std::as_const(*this).at(role, layer)); }

Shape weight_shape(const ModelConfig& config, WeightRole role) {
  const std::int64_t query = config.heads * config.head_width, kv = config.kv_heads * config.head_width;
  switch (role) {
    case kAttentionNorm:
    case kFeedForwardNorm:
    case kOutputNorm:
      return {config.width};
    case kQuery:
      return {query, config.width};
    case kKey:
    case kValue:
      return {kv, config.width};
    case kAttentionOutput:
      return {config.width, query};
    case kGate:
    case kUp:
      return {config.feed_forward, config.width};
    case kDown:
      return {config.width, config.feed_forward};
    default:
      return {config.vocabulary, config.width};
  }
}

void check_weights(const ModelConfig& config, const ModelWeights& weights, const std::string& where, NameColumn names) {
  PUNA_CHECK(static_cast<std::int64_t>(weights.layers.size()) == config.layers, where, "{} layers of weights for a config of {}",
             weights.layers.size(), config.layers);
  for (const WeightRoleInfo& row : kRoles) {
    const Shape shape = weight_shape(config, row.role);
    for (std::int64_t layer = 0; layer < (row.per_layer ? config.layers : 1); ++layer) {
      if (row.role == kOutput && config.tied_embeddings) continue;
      const Tensor& tensor = weights.at(row.role, layer);
      if (!tensor) {
        fail(ErrorKind::kBadInput, where,
             "tensor {} is missing: the download is incomplete, or the config belongs to another model",
             weight_name(row.role, names, layer));
      }
      if (tensor.shape != shape) {
        fail(ErrorKind::kBadInput, where, "tensor {} is {}, expected {} from the config", tensor.name, tensor.shape.text(),
             shape.text());
      }
      check_format(tensor, row.role, where);
      check_values(tensor, where);
    }
  }
}

}  // namespace puna
