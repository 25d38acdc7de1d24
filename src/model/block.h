// SPDX-License-Identifier: Apache-2.0
// One Llama block over a batch of T rows, forward, as functions over named buffers: inference gives every layer the same buffers,
// training gives each layer its own. Attention reads keys and values from pages of a cache or from the batch's own rows; nothing
// else differs between the two. The block from behind is in model/block_backward.h.
//   x += Wo attention(rope(Wq n), rope(Wk n), Wv n),  n = rms_norm(x)
//   x += Wdown (silu(Wgate m) * Wup m),               m = rms_norm(x)
// Where the device is one of a team, weights and config are its rank's share (model/rank_share.h), and both x are sums over the
// ranks.
#pragma once

#include <cstdint>
#include <span>
#include <variant>

#include "kernels/attention.h"
#include "kernels/device.h"
#include "kernels/matmul.h"
#include "kernels/packed_attention.h"
#include "model/adapters.h"
#include "model/config.h"
#include "model/weights.h"

namespace puna {

// Adapters that some rows of a batch have and others have not.
struct AdaptedRows {
  std::int64_t first, rows;
  const LayerAdapters* adapters;
};

struct BlockWeights {
  const LayerWeights& matrices;
  const float* attention_norm;                     // [D]
  const float* feed_forward_norm;                  // [D]
  const LayerAdapters* adapters = nullptr;         // of all rows
  std::span<const AdaptedRows> row_adapters = {};  // or of some, ascending; only in inference
};

// What all blocks of one batch share.
struct BlockBatch {
  std::int64_t rows;        // T
  const float* rope_table;  // [T, E / 2, 2]
};

// Where attention finds keys and values. Pages: the batch's own are appended first, and the pages have room for them.
struct PagedKv {
  KvLayer layer;
  const KvBatch& batch;  // which positions the rows are, and the pages of those positions
};
// The batch's own rows, and nothing else.
struct PackedKv {
  std::span<const PackedSegment> segments;
  float* log_sum_exp;  // [T, H] of the scores, kept for backward
};
using KvView = std::variant<PagedKv, PackedKv>;

// The rows behind which logits are wanted: all that the last block has to finish.
struct WantedRows {
  std::span<const std::int32_t> rows;              // [R] ascending; the device's memory
  const KvBatch& batch;                            // the same rows as runs of positions
  std::span<const AdaptedRows> row_adapters = {};  // of the wanted rows alone, numbered 0 to R - 1
};

struct BlockBuffers {
  float* x;                  // [T, D] the residual stream
  float* attention_norm;     // [T, D] n
  float* qkv;                // [T, (H + 2 G) E] queries, keys and values side by side
  float* attention;          // [T, H, E]
  float* x_middle;           // [T, D] the residual stream between attention and the feed-forward network
  float* feed_forward_norm;  // [T, D] m; may be attention_norm
  float* gate;               // [T, F] Wgate m
  float* up;                 // [T, F] Wup m
  float* activated;          // [T, F] silu(Wgate m) * Wup m; may be gate
  float* x_out;              // [T, D] the residual stream behind the block; may be x
  LowRankBuffers low_rank;   // of the adapters, where the weights have some
};

// Where and with what a block runs.
struct BlockRun {
  Device& device;
  const ModelConfig& config;
  ActivationBuffer& activations;  // of T rows, as wide as D, H E, F and the adapters' rank
};

void block_forward(const BlockRun& run, const BlockWeights& weights, const BlockBatch& batch, const KvView& kv,
                   const BlockBuffers& buffers);

// The same without the last product and x_out: all that block_backward() reads, for blocks that are run again.
void block_forward_again(const BlockRun& run, const BlockWeights& weights, const BlockBatch& batch, const PackedKv& kv,
                         const BlockBuffers& buffers);

// The same for the last block of inference: keys and values of all rows are stored, but only the wanted rows are finished; they are
// left as x_out [R, D]. With no wanted rows it ends behind the cache. Rows of x are moved.
void last_block_forward(const BlockRun& run, const BlockWeights& weights, const BlockBatch& batch, const PagedKv& kv,
                        const BlockBuffers& buffers, const WantedRows& wanted);

// Queries, keys and values that lie side by side, as packed attention takes them.
PackedRows packed_rows(const ModelConfig& config, const float* qkv);

}  // namespace puna
