// SPDX-License-Identifier: Apache-2.0
// Low-rank adapters (LoRA, Hu et al., 2021, eq. 3) beside the seven matrices of a block, whatever their format (QLoRA where they
// are quantized, Dettmers et al., 2023):
//   y = W x + B u,   u = (alpha / r) A x
// Inference and training share this path (model/block.h). The scale is put on u, the smallest of the three, so that the gradients
// of A and B need none of their own.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/config.h"
#include "model/weights.h"
#include "tensor/arena.h"
#include "tensor/tensor.h"

namespace puna {

// The roles that can carry an adapter, in the order of their buffers.
inline constexpr std::array kAdaptedRoles = {WeightRole::kQuery, WeightRole::kKey, WeightRole::kValue, WeightRole::kAttentionOutput,
                                             WeightRole::kGate,  WeightRole::kUp,  WeightRole::kDown};
inline constexpr std::size_t kAdaptedRoleCount = kAdaptedRoles.size();

// The place of a role in kAdaptedRoles; throws kInternal for a role that carries none.
std::size_t adapter_index(WeightRole role);

// "q_proj" -> kQuery, as PEFT's target_modules name them; nullopt for another name.
std::optional<WeightRole> adapted_role_from_name(std::string_view name);

struct LowRank {
  Tensor a;                                                        // [r, K] F32
  Tensor b;                                                        // [N, r] F32
  float scale = 0;                                                 // alpha / r
  explicit operator bool() const { return static_cast<bool>(b); }  // columns of A may have no memory yet (model/rank_share.h)
  std::int64_t rank() const { return a.shape[0]; }
};

// The adapters of one layer; an empty LowRank where a matrix has none.
struct LayerAdapters {
  std::array<LowRank, kAdaptedRoleCount> matrices;
  const LowRank& at(WeightRole role) const { return matrices[adapter_index(role)]; }
  LowRank& at(WeightRole role) { return matrices[adapter_index(role)]; }
};

// The adapters of a whole network, to be chosen for a request beside the weights they were made for (model/adapter_file.h).
struct AdapterSet {
  std::string name;
  std::vector<LayerAdapters> layers;  // [L]
  std::int64_t rank = 0, bytes = 0;   // the largest r; memory
  std::shared_ptr<void> owner;
};

// Memory for the adapters of one layer's forward.
struct LowRankBuffers {
  std::array<float*, kAdaptedRoleCount> inner{};  // each [T, r] u; nullptr where there is no adapter
  float* delta = nullptr;                         // [T, the widest N] B u
};

// The largest rank of any adapter; 0 without.
std::int64_t largest_rank(std::span<const LayerAdapters> adapters);

// visit(adapter, role) of all that are there.
template <typename Layers, typename Visit>
void each_adapter(Layers&& layers, Visit&& visit) {
  for (auto& layer : layers) {
    for (const WeightRole role : kAdaptedRoles) {
      if (layer.at(role)) visit(layer.at(role), role);
    }
  }
}

// Buffers for layers that are run one after the other, from an arena that has low_rank_bytes() for them. Rank 0: none.
LowRankBuffers take_low_rank(Arena& arena, const ModelConfig& config, std::int64_t rank, std::int64_t rows);
std::int64_t low_rank_bytes(const ModelConfig& config, std::int64_t rank, std::int64_t rows);

}  // namespace puna
