// SPDX-License-Identifier: Apache-2.0
// The Llama network (llama-models, models/llama3/model.py) over a ragged batch, forward:
//   x = embedding[token];  x = block(x) for every layer (model/block.h);  logits = Wout rms_norm(x)
// A checkpoint's adapters take part in every row; where it has none, every part of a batch may bring some of its own.
// Buffers are planned once for `max_rows` rows and do not move; nothing is allocated in forward() after construction.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/device.h"
#include "model/checkpoint.h"
#include "model/kv_cache.h"
#include "text/token.h"

namespace puna {

// Tokens of one or more sequences, one after the other; sequence i continues at its length in the cache.
struct Batch {
  struct Part {
    int sequence;       // of the cache
    std::int64_t rows;  // how many of the tokens are its own
    const AdapterSet* adapters = nullptr;
  };
  std::span<const Token> tokens;             // [T]
  std::span<const Part> parts;               // rows sum to T
  std::span<const std::int32_t> logit_rows;  // ascending rows of the batch whose logits are wanted; may be empty
  bool all_states = false;                   // instead: the states of all rows, and no logits; logit_rows is empty
  bool likeliest_only = false;               // of the wanted rows Llama::likeliest(), and no logits
};

class Llama {
 public:
  // max_rows: largest T; max_logit_rows: largest number of rows of logits from one forward().
  // adapter_rank: the largest of any adapters that parts bring. On a GPU the checkpoint's weights are there already
  // (model/gpu_checkpoint.h), and what forward() and states() return is copied to the host.
  Llama(std::shared_ptr<const Checkpoint> checkpoint, Device device, std::int64_t max_rows, std::int64_t max_logit_rows,
        std::int64_t adapter_rank = 0);
  ~Llama();

  // Runs the batch, appends its keys and values to the cache, and returns logits [logit_rows, V], valid until the next call.
  // Only what the wanted rows need is computed: without logit_rows the last layer ends behind its keys and values. A row's logits
  // depend on the rest of the batch by rounding only (products sum in one order below kPanelRows rows and in another from there
  // on). Throws kBadInput for a token outside the vocabulary, kNoRoom when the cache is full; the cache is as before then.
  std::span<const float> forward(const Batch& batch, KvCache& cache);

  // The token with the largest logit of each wanted row [logit_rows] of a batch with likeliest_only, the lowest of equal ones.
  std::span<const std::int32_t> likeliest() const;

  // The states behind the output norm [logit_rows, D], or [T, D] of all rows, that the last forward() left, valid until the next.
  std::span<const float> states() const;
  // Logits [rows, V] of rows [first, first + rows) of states(), valid until the next call or forward().
  std::span<const float> logits_of_states(std::int64_t first, std::int64_t rows);

  // Parts that bring `adapters` run with the same ones where the device can read them.
  void run_adapters_as(const AdapterSet* adapters, std::shared_ptr<const AdapterSet> on_device);

  const ModelConfig& config() const;
  std::int64_t max_rows() const;
  std::int64_t max_logit_rows() const;
  // Bytes the constructor allocates on the device, without adapters.
  static std::int64_t activation_bytes(const ModelConfig& config, std::int64_t max_rows, std::int64_t max_logit_rows,
                                       bool on_gpu = false);

 private:
  void check(const Batch& batch) const;
  void run(const Batch& batch, KvCache& cache);
  void run_blocks(const Batch& batch, KvCache& cache);
  void find_adapters(const Batch& batch);
  void normalise_states(std::int64_t rows);
  void multiply_states(std::int64_t first, std::int64_t rows);

  struct Buffers;
  std::shared_ptr<const Checkpoint> checkpoint_;
  Device device_;
  std::unique_ptr<Buffers> buffers_;
};

}  // namespace puna
