// SPDX-License-Identifier: Apache-2.0
// A checkpoint's weights in a GPU's memory, once, in the form its kernels read.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "kernels/gpu.h"
#include "model/adapters.h"
#include "model/checkpoint.h"
#include "model/rank_share.h"

namespace puna {

// done and total in bytes of the GPU's memory.
using LoadProgress = std::function<void(std::int64_t done, std::int64_t total)>;

// Bytes that a checkpoint, or the share of a rank that has most (model/rank_share.h), takes of a GPU.
std::int64_t gpu_weight_bytes(const Checkpoint& checkpoint, const Gpu& gpu, int ranks = 1);
std::int64_t gpu_adapter_bytes(std::span<const LayerAdapters> adapters, const Gpu& gpu);

// The same network: everything but the weights is shared with `checkpoint`, whose files may be let go. `gpu` must outlive it.
// Throws kNoRoom with the figures.
std::shared_ptr<const Checkpoint> load_on_gpu(const std::shared_ptr<const Checkpoint>& checkpoint, const std::shared_ptr<Gpu>& gpu,
                                              const LoadProgress& progress = {});
// A rank's share of it.
std::shared_ptr<const Checkpoint> load_on_gpu(const std::shared_ptr<const Checkpoint>& checkpoint, const std::shared_ptr<Gpu>& gpu,
                                              const Share& share);
// A share on each GPU: rank r's on gpus[r]. The files are read once, and columns are cut from one tensor at a time.
std::vector<std::shared_ptr<const Checkpoint>> load_on_gpus(const std::shared_ptr<const Checkpoint>& checkpoint,
                                                            std::span<const std::shared_ptr<Gpu>> gpus,
                                                            const LoadProgress& progress = {});
std::shared_ptr<const AdapterSet> load_on_gpu(const AdapterSet& adapters, const std::shared_ptr<Gpu>& gpu);

}  // namespace puna
