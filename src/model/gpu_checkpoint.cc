// SPDX-License-Identifier: Apache-2.0
// One walk over the tensors, which counts them, and one which loads them, in the same order: each GPU's into one arena.
#include "model/gpu_checkpoint.h"

#include <algorithm>
#include <utility>

#include "base/as_size.h"
#include "model/rank_share.h"

namespace puna {
namespace {

// Layer by layer, so that matrices of the same input lie side by side. Tied embeddings are one matrix; a stage lacks some weights.
template <typename Visit>
void each_weight(const Checkpoint& checkpoint, Visit&& visit) {
  for (const WeightRoleInfo& row : weight_roles()) {
    if (row.per_layer || (row.role == WeightRole::kOutput && checkpoint.config.tied_embeddings)) continue;
    if (checkpoint.weights.at(row.role).shape.count() > 0) visit(row.role, 0);
  }
  for (std::int64_t layer = 0; layer < checkpoint.config.layers; ++layer) {
    for (const WeightRoleInfo& row : weight_roles()) {
      if (row.per_layer) visit(row.role, layer);
    }
  }
}

std::size_t padded_bytes(const Gpu& gpu, const Tensor& tensor) { return Arena::padded(gpu.library().weight_bytes(tensor)); }

Tensor load_tensor(const Gpu& gpu, const Tensor& tensor, Arena& arena) {
  return gpu.library().load_weight(gpu.context(), tensor, arena.take(gpu.library().weight_bytes(tensor)).data());
}

void load_adapters(const Gpu& gpu, std::span<LayerAdapters> layers, Arena& arena) {
  each_adapter(layers, [&](LowRank& adapter, WeightRole) {
    adapter.a = load_tensor(gpu, adapter.a, arena);
    adapter.b = load_tensor(gpu, adapter.b, arena);
  });
}

// The arena and the GPU it lies in, which goes last.
struct Owner {
  Owner(std::shared_ptr<Gpu> of, Arena memory) : gpu(std::move(of)), arena(std::move(memory)) {}
  std::shared_ptr<Gpu> gpu;
  Arena arena;
};

std::int64_t share_bytes(const Checkpoint& share, const Gpu& gpu) {
  std::size_t bytes = 0;
  each_weight(share, [&](WeightRole role, std::int64_t layer) { bytes += padded_bytes(gpu, share.weights.at(role, layer)); });
  return static_cast<std::int64_t>(bytes) + gpu_adapter_bytes(share.adapters, gpu);
}

// A rank's share on its way to a GPU.
struct GpuShare {
  GpuShare(const std::shared_ptr<const Checkpoint>& whole, const Share& of_rank, const std::shared_ptr<Gpu>& gpu)
      : share(of_rank), checkpoint(checkpoint_of_share(*whole, of_rank)) {
    owner = std::make_shared<Owner>(gpu, Arena(as_size(share_bytes(*checkpoint, *gpu)), "the weights", gpu->memory()));
    checkpoint->owners = {owner};
  }

  // `columns` is room for those of one tensor.
  void load(const Tensor& whole, WeightRole role, std::int64_t layer, std::vector<std::byte>& columns) {
    Tensor& tensor = checkpoint->weights.at(role, layer);
    if (splits_columns(role, share)) {
      columns.resize(as_size(format_bytes(tensor.format, tensor.shape.count())));
      tensor = copy_columns(whole, role, share, columns);
    }
    tensor = load_tensor(*owner->gpu, tensor, owner->arena);
  }

  Share share;
  std::shared_ptr<Checkpoint> checkpoint;
  std::shared_ptr<Owner> owner;
};

// The files are read once, and columns are cut from one tensor at a time.
std::vector<std::shared_ptr<const Checkpoint>> load_shares(const Checkpoint& checkpoint, std::vector<GpuShare> shares,
                                                           const LoadProgress& progress) {
  std::int64_t total = 0;
  for (const GpuShare& share : shares) total += static_cast<std::int64_t>(share.owner->arena.capacity());
  const auto say = [&] {
    std::int64_t done = 0;
    for (const GpuShare& share : shares) done += static_cast<std::int64_t>(share.owner->arena.used());
    if (progress) progress(done, total);
  };
  std::vector<std::byte> columns;
  each_weight(*shares.front().checkpoint, [&](WeightRole role, std::int64_t layer) {
    for (GpuShare& share : shares) share.load(checkpoint.weights.at(role, layer), role, layer, columns);
    say();
  });
  std::vector<std::shared_ptr<const Checkpoint>> loaded;
  for (GpuShare& share : shares) {
    if (share.checkpoint->config.tied_embeddings) share.checkpoint->weights.output = share.checkpoint->weights.token_embedding;
    const auto columns_of_adapters = copy_columns(checkpoint.adapters, share.share, share.checkpoint->adapters);
    load_adapters(*share.owner->gpu, share.checkpoint->adapters, share.owner->arena);
    loaded.push_back(share.checkpoint);
  }
  say();
  return loaded;
}

}  // namespace

std::int64_t gpu_weight_bytes(const Checkpoint& checkpoint, const Gpu& gpu, int ranks) {
  std::int64_t most = 0;
  for (int rank = 0; rank < ranks; ++rank)
    most = std::max(most, share_bytes(*checkpoint_of_share(checkpoint, share_of_rank(checkpoint, rank, ranks)), gpu));
  return most;
}

std::int64_t gpu_adapter_bytes(std::span<const LayerAdapters> adapters, const Gpu& gpu) {
  std::size_t bytes = 0;
  each_adapter(adapters,
               [&](const LowRank& adapter, WeightRole) { bytes += padded_bytes(gpu, adapter.a) + padded_bytes(gpu, adapter.b); });
  return static_cast<std::int64_t>(bytes);
}

std::shared_ptr<const Checkpoint> load_on_gpu(const std::shared_ptr<const Checkpoint>& checkpoint, const std::shared_ptr<Gpu>& gpu,
                                              const LoadProgress& progress) {
  return load_on_gpus(checkpoint, {&gpu, 1}, progress).front();
}

std::shared_ptr<const Checkpoint> load_on_gpu(const std::shared_ptr<const Checkpoint>& checkpoint, const std::shared_ptr<Gpu>& gpu,
                                              const Share& share) {
  return load_shares(*checkpoint, {GpuShare(checkpoint, share, gpu)}, {}).front();
}

std::vector<std::shared_ptr<const Checkpoint>> load_on_gpus(const std::shared_ptr<const Checkpoint>& checkpoint,
                                                            std::span<const std::shared_ptr<Gpu>> gpus,
                                                            const LoadProgress& progress) {
  std::vector<GpuShare> shares;
  for (const auto& gpu : gpus) {
    shares.emplace_back(checkpoint, share_of_rank(*checkpoint, static_cast<int>(shares.size()), static_cast<int>(gpus.size())),
                        gpu);
  }
  return load_shares(*checkpoint, std::move(shares), progress);
}

std::shared_ptr<const AdapterSet> load_on_gpu(const AdapterSet& adapters, const std::shared_ptr<Gpu>& gpu) {
  const auto owner =
      std::make_shared<Owner>(gpu, Arena(as_size(gpu_adapter_bytes(adapters.layers, *gpu)), "the adapters", gpu->memory()));
  auto loaded = std::make_shared<AdapterSet>(adapters);
  load_adapters(*gpu, loaded->layers, owner->arena);
  loaded->owner = owner;
  return loaded;
}

}  // namespace puna
