// SPDX-License-Identifier: Apache-2.0
// One Llama block over a ragged batch of T rows, forward, as functions over named buffers: inference gives every layer the same
// buffers, a caller that needs the activations later gives each layer its own.
//   x += Wo attention(rope(Wq n), rope(Wk n), Wv n),  n = rms_norm(x)
//   x += Wdown (silu(Wgate m) * Wup m),               m = rms_norm(x)
#pragma once

#include <cstdint>
#include <span>

#include "kernels/attention.h"
#include "kernels/device.h"
#include "kernels/matmul.h"
#include "model/config.h"
#include "model/weights.h"

namespace puna {

struct BlockWeights {
  const LayerWeights& matrices;
  const float* attention_norm;     // [D]
  const float* feed_forward_norm;  // [D]
};

// What all blocks of one batch share.
struct BlockBatch {
  std::int64_t rows;                         // T
  std::span<const BatchSequence> sequences;  // which positions the rows are, and the pages of those positions
  const float* rope_table;                   // [T, E / 2, 2]
};

// The rows behind which logits are wanted: all that the last block has to finish.
struct WantedRows {
  std::span<const std::int32_t> rows;        // [R] ascending
  std::span<const BatchSequence> sequences;  // the same rows as runs of positions
};

struct BlockBuffers {
  float* x;                   // [T, D] the residual stream, changed in place
  float* attention_norm;      // [T, D] n
  float* qkv;                 // [T, (H + 2 G) E] queries, keys and values side by side
  float* attention;           // [T, H, E]
  float* attention_delta;     // [T, D] what attention adds to x
  float* feed_forward_norm;   // [T, D] m; may be attention_norm
  float* gate;                // [T, F] Wgate m, then silu(Wgate m) * Wup m
  float* up;                  // [T, F]
  float* feed_forward_delta;  // [T, D]; may be attention_delta
};

// Where and with what a block runs.
struct BlockRun {
  Device& device;
  const ModelConfig& config;
  ActivationBuffer& activations;  // of T rows, the widest of D, H E and F
};

// Keys and values are appended to `layer`, whose pages have room for them.
void block_forward(const BlockRun& run, const BlockWeights& weights, const BlockBatch& batch, const KvLayer& layer,
                   const BlockBuffers& buffers);

// The same for the last block: keys and values of all rows are stored, but only the wanted rows are finished; they are left as
// x [R, D]. With no wanted rows it ends behind the cache.
void last_block_forward(const BlockRun& run, const BlockWeights& weights, const BlockBatch& batch, const KvLayer& layer,
                        const BlockBuffers& buffers, const WantedRows& wanted);

}  // namespace puna
