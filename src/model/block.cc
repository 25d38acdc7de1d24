// SPDX-License-Identifier: Apache-2.0
// Products that read the same activations are one call: one rounding to 8 bits, one pass over the threads.
#include "model/block.h"

#include <algorithm>
#include <array>
#include <cstddef>

#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/swiglu.h"

namespace puna {
namespace {

// Y = X W^T for all products of one X [rows, width].
void multiply(const BlockRun& run, const float* x, std::int64_t rows, std::int64_t width, std::span<const Product> products) {
  Activations activations = run.activations.prepare(x, rows, width);
  matmul_forward(run.device, activations, products);
}

// rms_norm, then queries (where wanted), keys and values of all rows; keys and values go into the cache.
void project(const BlockRun& run, const BlockWeights& weights, const BlockBatch& batch, const KvLayer& layer,
             const BlockBuffers& buffers, bool with_queries) {
  const ModelConfig& config = run.config;
  const std::int64_t query_width = config.heads * config.head_width, kv_width = config.kv_heads * config.head_width;
  const std::int64_t stride = query_width + 2 * kv_width;
  float* const k = buffers.qkv + query_width;  // [T, G, E], rows `stride` apart
  float* const v = k + kv_width;               // [T, G, E], rows `stride` apart

  rms_norm_forward(run.device, buffers.x, weights.attention_norm, static_cast<float>(config.norm_eps), batch.rows, config.width,
                   buffers.attention_norm);
  const std::array<Product, 3> products{
      {{&weights.matrices.key, k, stride}, {&weights.matrices.value, v, stride}, {&weights.matrices.query, buffers.qkv, stride}}};
  multiply(run, buffers.attention_norm, batch.rows, config.width, std::span(products).first(with_queries ? 3 : 2));

  const RopeRows keys{k, batch.rows, config.kv_heads, config.head_width, stride};
  rope_forward(run.device, keys, batch.rope_table, config.rope_pairing);
  if (with_queries) {
    const RopeRows queries{buffers.qkv, batch.rows, config.heads, config.head_width, stride};
    rope_forward(run.device, queries, batch.rope_table, config.rope_pairing);
  }
  kv_store(run.device, layer, batch.sequences, {k, v, stride});
}

void attend(const BlockRun& run, const KvLayer& layer, std::span<const BatchSequence> sequences, const BlockBuffers& buffers) {
  const std::int64_t stride = (run.config.heads + 2 * run.config.kv_heads) * run.config.head_width;
  attention_forward(run.device, layer, sequences, {buffers.qkv, run.config.heads, stride, buffers.attention});
}

// The output product of attention and the feed-forward network: x [rows, D] += both.
void finish(const BlockRun& run, const BlockWeights& weights, const BlockBuffers& buffers, std::int64_t rows) {
  const ModelConfig& config = run.config;
  const std::array<Product, 1> output{{{&weights.matrices.attention_output, buffers.attention_delta, config.width}}};
  multiply(run, buffers.attention, rows, config.heads * config.head_width, output);
  add_forward(run.device, buffers.x, buffers.attention_delta, rows, config.width);

  rms_norm_forward(run.device, buffers.x, weights.feed_forward_norm, static_cast<float>(config.norm_eps), rows, config.width,
                   buffers.feed_forward_norm);
  const std::array<Product, 2> gate_up{
      {{&weights.matrices.gate, buffers.gate, config.feed_forward}, {&weights.matrices.up, buffers.up, config.feed_forward}}};
  multiply(run, buffers.feed_forward_norm, rows, config.width, gate_up);
  swiglu_forward(run.device, buffers.gate, buffers.up, rows, config.feed_forward, buffers.gate);
  const std::array<Product, 1> down{{{&weights.matrices.down, buffers.feed_forward_delta, config.width}}};
  multiply(run, buffers.gate, rows, config.feed_forward, down);
  add_forward(run.device, buffers.x, buffers.feed_forward_delta, rows, config.width);
}

// x [T, width] -> its given rows, moved to the front: x [R, width]. They ascend, so none is overwritten before it is moved.
void gather_rows(float* x, std::span<const std::int32_t> rows, std::int64_t width) {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (static_cast<std::size_t>(rows[i]) != i) std::copy_n(x + rows[i] * width, width, x + static_cast<std::int64_t>(i) * width);
  }
}

}  // namespace

void block_forward(const BlockRun& run, const BlockWeights& weights, const BlockBatch& batch, const KvLayer& layer,
                   const BlockBuffers& buffers) {
  project(run, weights, batch, layer, buffers, true);
  attend(run, layer, batch.sequences, buffers);
  finish(run, weights, buffers, batch.rows);
}

void last_block_forward(const BlockRun& run, const BlockWeights& weights, const BlockBatch& batch, const KvLayer& layer,
                        const BlockBuffers& buffers, const WantedRows& wanted) {
  project(run, weights, batch, layer, buffers, !wanted.rows.empty());
  if (wanted.rows.empty()) return;
  attend(run, layer, wanted.sequences, buffers);
  gather_rows(buffers.attention, wanted.rows, run.config.heads * run.config.head_width);
  gather_rows(buffers.x, wanted.rows, run.config.width);
  finish(run, weights, buffers, static_cast<std::int64_t>(wanted.rows.size()));
}

}  // namespace puna
