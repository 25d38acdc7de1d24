// SPDX-License-Identifier: Apache-2.0
// What a run will hold in memory, known before anything large is allocated. Printed by `puna show` and before long contexts;
// refuses with the figures, and with what would fit, when it is more than the machine has.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "kernels/gpu.h"
#include "model/config.h"
#include "tensor/format.h"

namespace puna {

struct MemoryPlan {
  std::int64_t weights = 0, kv = 0, activations = 0, logits = 0;  // bytes
  std::int64_t available = 0;                                     // bytes free for this process (control group respected)
  std::int64_t context = 0;                                       // positions planned
  std::int64_t largest_context = 0;                               // that would fit with the same formats, in whole pages
  Format kv_format = Format::kF16;
  Format smaller_kv = Format::kQ8_0;  // F8E4M3 on a GPU
  std::int64_t kv_smaller = 0;        // bytes of the same context in it; 0 where E does not allow it
  int gpus = 0;                       // all figures are those of the fullest of so many; 0: the machine's memory
  std::int64_t total() const { return weights + kv + activations + logits; }
  bool fits() const { return total() <= available; }
  std::string text() const;  // a small table
};

struct RunShape {
  Format kv_format = Format::kF16;
  std::int64_t context = 0;           // positions of KV over all sequences
  std::int64_t rows = 512;            // rows of the largest batch (prefill chunk)
  std::int64_t logit_rows = 1;        // rows of logits kept at once
  std::int64_t adapter_rank = 0;      // the largest of adapters that requests choose; their own bytes count among the weights'
  int ranks = 1;                      // that each layer is split over (model/rank_share.h)
  int stages = 1;                     // that the layers are divided among (model/stages.h)
  std::int64_t stage_layers = 0;      // of the stage that has most; 0: all of one
  std::int64_t resident_bytes = 0;    // of the weights, those that are in the machine's memory already
  std::vector<const Gpu*> gpus = {};  // whose memory everything takes, one for each rank of each stage; none: the machine's
  std::int64_t gpu_memory = 0;        // instead: bytes that are free on each of so many GPUs, which need not be here
  bool on_gpu() const { return !gpus.empty() || gpu_memory > 0; }
  int devices() const { return ranks * stages; }
};

// weight_bytes: what the files hold and copied columns take, or what load_on_gpus() takes of the GPU that gets most. Mapped files
// count in full: a run that pages weights in and out is no run. Of stages on GPUs the plan is a bound: the most layers beside the
// most weights and the logits, whichever stages have them.
MemoryPlan plan_memory(const ModelConfig& config, std::int64_t weight_bytes, const RunShape& run);
// Throws kNoRoom with the figures and what would fit.
void check_fits(const MemoryPlan& plan, const std::string& where);

// Throws kNoRoom where `bytes` that are to be taken at once, for `what` (a plural), are more than is available. `root` as below.
void check_memory(std::int64_t bytes, const std::string& what, const std::string& where, const std::filesystem::path& root = "/");

// Bytes this process could still take: /proc/meminfo's MemAvailable, and no more than the limit of any control group (v2) it is in
// leaves, where cached file pages count as free. `root` is where proc and sys are.
std::int64_t available_memory(const std::filesystem::path& root = "/");

}  // namespace puna
