// SPDX-License-Identifier: Apache-2.0
// One walk over the tensors, which counts them, and one which loads them into one arena, in the same order.
#include "model/gpu_checkpoint.h"

#include <utility>
#include <vector>

#include "base/as_size.h"

namespace puna {
namespace {

// Layer by layer, so that matrices of the same input lie side by side. Tied embeddings are one matrix.
template <typename Visit>
void each_weight(const Checkpoint& checkpoint, Visit&& visit) {
  for (const WeightRoleInfo& row : weight_roles()) {
    if (row.per_layer || (row.role == WeightRole::kOutput && checkpoint.config.tied_embeddings)) continue;
    visit(row.role, 0);
  }
  for (std::int64_t layer = 0; layer < checkpoint.config.layers; ++layer) {
    for (const WeightRoleInfo& row : weight_roles()) {
      if (row.per_layer) visit(row.role, layer);
    }
  }
}

template <typename Layers, typename Visit>
void each_adapter(Layers& layers, Visit&& visit) {
  for (auto& layer : layers) {
    for (auto& matrix : layer.matrices) {
      if (!matrix) continue;
      visit(matrix.a);
      visit(matrix.b);
    }
  }
}

std::size_t padded_bytes(const Gpu& gpu, const Tensor& tensor) { return Arena::padded(gpu.library().weight_bytes(tensor)); }

Tensor load(const Gpu& gpu, const Tensor& tensor, Arena& arena) {
  return gpu.library().load_weight(gpu.context(), tensor, arena.take(gpu.library().weight_bytes(tensor)).data());
}

// The arena and the GPU it lies in, which goes last.
struct Owner {
  std::shared_ptr<Gpu> gpu;
  Arena arena;
};

}  // namespace

std::int64_t gpu_weight_bytes(const Checkpoint& checkpoint, const Gpu& gpu) {
  std::size_t bytes = 0;
  each_weight(checkpoint,
              [&](WeightRole role, std::int64_t layer) { bytes += padded_bytes(gpu, checkpoint.weights.at(role, layer)); });
  each_adapter(checkpoint.adapters, [&](const Tensor& tensor) { bytes += padded_bytes(gpu, tensor); });
  return static_cast<std::int64_t>(bytes);
}

std::int64_t gpu_adapter_bytes(const AdapterSet& adapters, const Gpu& gpu) {
  std::size_t bytes = 0;
  each_adapter(adapters.layers, [&](const Tensor& tensor) { bytes += padded_bytes(gpu, tensor); });
  return static_cast<std::int64_t>(bytes);
}

std::shared_ptr<const Checkpoint> load_on_gpu(const std::shared_ptr<const Checkpoint>& checkpoint, const std::shared_ptr<Gpu>& gpu,
                                              const LoadProgress& progress) {
  const std::int64_t total = gpu_weight_bytes(*checkpoint, *gpu);
  const auto owner = std::make_shared<Owner>(gpu, Arena(as_size(total), "the weights", gpu->memory()));
  auto loaded = std::make_shared<Checkpoint>(*checkpoint);
  loaded->owners = {owner};
  const auto say = [&] {
    if (progress) progress(static_cast<std::int64_t>(owner->arena.used()), total);
  };
  each_weight(*checkpoint, [&](WeightRole role, std::int64_t layer) {
    loaded->weights.at(role, layer) = load(*gpu, checkpoint->weights.at(role, layer), owner->arena);
    say();
  });
  if (checkpoint->config.tied_embeddings) loaded->weights.output = loaded->weights.token_embedding;
  each_adapter(loaded->adapters, [&](Tensor& tensor) { tensor = load(*gpu, tensor, owner->arena); });
  say();
  return loaded;
}

std::shared_ptr<const AdapterSet> load_on_gpu(const AdapterSet& adapters, const std::shared_ptr<Gpu>& gpu) {
  const auto owner = std::make_shared<Owner>(gpu, Arena(as_size(gpu_adapter_bytes(adapters, *gpu)), "the adapters", gpu->memory()));
  auto loaded = std::make_shared<AdapterSet>(adapters);
  each_adapter(loaded->layers, [&](Tensor& tensor) { tensor = load(*gpu, tensor, owner->arena); });
  loaded->owner = owner;
  return loaded;
}

}  // namespace puna
