// SPDX-License-Identifier: Apache-2.0
// The weights of a Llama network, by their part in it. Roles are listed once (weight_roles()); each file format's names are
// columns of that table, so readers, writers, quantizers and checks all walk the same rows.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/config.h"
#include "tensor/tensor.h"

namespace puna {

enum class WeightRole {
  kTokenEmbedding,
  kAttentionNorm,
  kQuery,
  kKey,
  kValue,
  kAttentionOutput,
  kFeedForwardNorm,
  kGate,
  kUp,
  kDown,
  kOutputNorm,
  kOutput,
};

// How Meta splits a matrix over model-parallel files.
enum class ShardAxis { kNone, kRows, kColumns };

struct WeightRoleInfo {
  WeightRole role;
  bool per_layer;
  std::string_view gguf, hugging_face, meta;  // "blk.{}.attn_q.weight": {} is the layer
  ShardAxis shard_axis;
};
std::span<const WeightRoleInfo> weight_roles();
const WeightRoleInfo& info(WeightRole role);

// A column of names: &WeightRoleInfo::gguf, &WeightRoleInfo::hugging_face or &WeightRoleInfo::meta.
using NameColumn = std::string_view WeightRoleInfo::*;
std::string weight_name(WeightRole role, NameColumn column, std::int64_t layer = 0);

struct WeightSlot {
  WeightRole role;
  std::int64_t layer = 0;
};
// The role and layer that a name stands for, or nullopt for a name that is in no row.
std::optional<WeightSlot> find_weight(std::string_view name, NameColumn column);

struct LayerWeights {
  Tensor attention_norm;     // [D]
  Tensor query;              // [H E, D]
  Tensor key, value;         // [G E, D]
  Tensor attention_output;   // [D, H E]
  Tensor feed_forward_norm;  // [D]
  Tensor gate, up;           // [F, D]
  Tensor down;               // [D, F]

  Tensor& at(WeightRole role);  // throws kInternal for a role that is not per layer
  const Tensor& at(WeightRole role) const;
};

struct ModelWeights {
  Tensor token_embedding;            // [V, D]
  std::vector<LayerWeights> layers;  // [L]
  Tensor output_norm;                // [D]
  Tensor output;                     // [V, D]; the token embedding again where they are tied

  Tensor& at(WeightRole role, std::int64_t layer = 0);
  const Tensor& at(WeightRole role, std::int64_t layer = 0) const;
};

// Bytes of a weight as the files have it, scales of rows included, also where they are not there yet.
std::int64_t stored_bytes(const Tensor& weight);

// The shape a role has in this network.
Shape weight_shape(const ModelConfig& config, WeightRole role);

// Every weight is there with its shape, in a format the kernels run; throws kBadInput / kUnsupported naming the tensor.
// NaN and infinity are refused where they can be found without reading the whole file: tensors of up to 1 MiB are decoded whole
// (all norms are), of larger ones the first and the last row, and every row scale of FP8. A NaN elsewhere shows in the logits.
void check_weights(const ModelConfig& config, const ModelWeights& weights, const std::string& where,
                   NameColumn names = &WeightRoleInfo::hugging_face);

}  // namespace puna
