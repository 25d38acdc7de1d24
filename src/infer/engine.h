// SPDX-License-Identifier: Apache-2.0
// A model ready to answer: checkpoint, threads, cache and network together, after the memory plan said it fits. The network runs on
// the CPU, on a GPU, or on several devices: its layers divided among stages (model/stages.h), each split over the ranks of a team
// (model/rank_share.h), one on each GPU.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/collective.h"
#include "kernels/gpu.h"
#include "model/adapters.h"
#include "model/checkpoint.h"
#include "model/gpu_checkpoint.h"
#include "model/kv_cache.h"
#include "model/llama.h"
#include "model/memory_plan.h"

namespace puna {

struct EngineOptions {
  int threads = 0;  // 0: all processors
  Format kv_format = Format::kF16;
  std::int64_t context = 0;       // positions; 0: the model's own, at most what fits and at most 8192 unless asked
  int sequences = 1;              // room for so many whole contexts, or as many as fit; at least one
  std::int64_t chunk_rows = 512;  // rows of one prefill step
  std::int64_t logit_rows = 1;    // rows of logits one step may ask for
  std::vector<std::shared_ptr<const AdapterSet>> adapters = {};  // that requests may choose, made for this checkpoint
  DeviceChoice devices = {};                                     // where the network runs
  LoadProgress load_progress = {};                               // of the weights on their way to the GPU
};

// progress(done, total) in tokens, between chunks of a long prompt; returning false stops early.
using PrefillProgress = std::function<bool(std::int64_t done, std::int64_t total)>;

class Engine {
 public:
  // Throws kNoRoom with the memory plan when it does not fit, kUsage for an option out of range or stages that do not share the
  // devices equally, kUnsupported for a network that does not split over them.
  Engine(std::shared_ptr<const Checkpoint> checkpoint, const EngineOptions& options);

  const Checkpoint& checkpoint() const { return *checkpoint_; }
  const ModelConfig& config() const { return checkpoint_->config; }
  const MemoryPlan& plan() const { return plan_; }
  std::int64_t context() const { return context_; }  // positions of one sequence; all together: cache().capacity()
  int threads() const;                               // of all ranks
  int ranks() const { return run_.ranks; }           // of each stage
  int stages() const { return run_.stages; }
  std::string device() const;  // "cpu" or the GPU's name
  std::string sums() const;    // where several ranks make theirs, for people; "" for one
  KvCache& cache() { return cache_; }
  Llama& model() { return model_; }
  // 0 without adapters, else their place among those of the options, from 1. Throws kUsage for others.
  int adapter_number(const AdapterSet* adapters) const;

  // Rows of the next chunk of at most `most`, where `left` rows are left of a prompt: none leaves a rest of fewer than kPanelRows,
  // which products would sum in another order. So the size of chunks does not show in the logits.
  static std::int64_t chunk(std::int64_t left, std::int64_t most);

  // Appends tokens (at least one) to a sequence in chunks; returns the last token's logits [V], valid until the next call, or
  // nothing where `progress` stopped early: the sequence then holds the chunks that were done.
  // Throws kNoRoom naming both figures when the tokens do not fit the context: nothing is cut silently.
  // `draws`, where it is not empty, has one for each row of these logits, which then stay where they are: the model has their
  // shortlists (Llama::shortlists()), and nothing is returned.
  std::span<const float> append(int sequence, std::span<const Token> tokens, const PrefillProgress& progress = {},
                                const AdapterSet* adapters = nullptr, std::span<const RowDraw> draws = {});
  // The same for few tokens that are read at once: logits [tokens, V] of all, as many as logit_rows at most.
  std::span<const float> append_few(int sequence, std::span<const Token> tokens, const AdapterSet* adapters = nullptr,
                                    std::span<const RowDraw> draws = {});

 private:
  void place_adapters();

  std::shared_ptr<const Checkpoint> checkpoint_;  // on the host
  std::vector<std::shared_ptr<const AdapterSet>> adapters_;
  std::vector<std::shared_ptr<Gpu>> gpus_;  // one for each rank of each stage, its own stream on it; none: the CPU
  std::int64_t context_;
  RunShape run_;
  MemoryPlan plan_;
  std::vector<std::shared_ptr<const Checkpoint>> stages_;  // on the host
  std::vector<std::unique_ptr<ThreadPool>> pools_;         // one for each rank of each stage
  std::vector<std::unique_ptr<Team>> teams_;               // of several ranks, one for each stage
  KvCache cache_;
  Llama model_;
};

}  // namespace puna
