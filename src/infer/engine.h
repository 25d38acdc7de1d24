// SPDX-License-Identifier: Apache-2.0
// A model ready to answer: checkpoint, threads, cache and network together, after the memory plan said it fits.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "model/adapters.h"
#include "model/checkpoint.h"
#include "model/gpu_checkpoint.h"
#include "model/kv_cache.h"
#include "model/llama.h"
#include "model/memory_plan.h"

namespace puna {

inline constexpr int kNoGpu = -1;

struct EngineOptions {
  int threads = 0;  // 0: all processors
  Format kv_format = Format::kF16;
  std::int64_t context = 0;       // positions; 0: the model's own, at most what fits and at most 8192 unless asked
  int sequences = 1;              // room for so many whole contexts, or as many as fit; at least one
  std::int64_t chunk_rows = 512;  // rows of one prefill step
  std::int64_t logit_rows = 1;    // rows of logits one step may ask for
  std::vector<std::shared_ptr<const AdapterSet>> adapters = {};  // that requests may choose, made for this checkpoint
  int gpu = kNoGpu;                                              // where the network runs: a GPU's number, or the CPU
  LoadProgress load_progress = {};                               // of the weights on their way to the GPU
};

// progress(done, total) in tokens, between chunks of a long prompt; returning false stops early.
using PrefillProgress = std::function<bool(std::int64_t done, std::int64_t total)>;

class Engine {
 public:
  // Throws kNoRoom with the memory plan when it does not fit, kUsage for an option out of range.
  Engine(std::shared_ptr<const Checkpoint> checkpoint, const EngineOptions& options);

  const Checkpoint& checkpoint() const { return *checkpoint_; }
  const ModelConfig& config() const { return checkpoint_->config; }
  const MemoryPlan& plan() const { return plan_; }
  std::int64_t context() const { return context_; }  // positions of one sequence; all together: cache().capacity()
  int threads() const { return pool_.size(); }
  const Gpu* gpu() const { return gpu_.get(); }
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
  std::span<const float> append(int sequence, std::span<const Token> tokens, const PrefillProgress& progress = {},
                                const AdapterSet* adapters = nullptr);
  // The same for few tokens that are read at once: logits [tokens, V] of all, as many as logit_rows at most.
  std::span<const float> append_few(int sequence, std::span<const Token> tokens, const AdapterSet* adapters = nullptr);

 private:
  std::shared_ptr<const Checkpoint> checkpoint_;  // on the host
  std::vector<std::shared_ptr<const AdapterSet>> adapters_;
  std::shared_ptr<Gpu> gpu_;  // its own stream on it; nullptr: the CPU
  std::int64_t context_;
  RunShape run_;
  MemoryPlan plan_;
  ThreadPool pool_;
  KvCache cache_;
  Llama model_;
};

}  // namespace puna
