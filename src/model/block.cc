// SPDX-License-Identifier: Apache-2.0
// Products that read the same activations are one call: one rounding to 8 bits, one pass over the threads. The narrow halves of
// adapters that all rows have go along in that call; rows that have their own get them added afterwards.
#include "model/block.h"

#include <algorithm>
#include <array>
#include <cstddef>

#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/swiglu.h"

namespace puna {
namespace {

// Y = X W^T for the matrix of one role.
struct RoleProduct {
  WeightRole role;
  float* y;  // [rows, N], rows `stride` apart
  std::int64_t stride;
};

// y[t, n] += delta[t, n]
void add_rows(Device& device, const RoleProduct& product, const float* delta, std::int64_t rows, std::int64_t width) {
  device.pool.split(rows, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t t = begin; t < end; ++t) {
      float* const y = product.y + t * product.stride;
      for (std::int64_t n = 0; n < width; ++n) y[n] += delta[t * width + n];
    }
  });
}

// The narrow halves of adapters, s X A^T before the scale, to be computed with other products of the same X.
std::size_t add_inner_products(const LayerAdapters& adapters, const BlockBuffers& buffers, std::span<const RoleProduct> matrices,
                               std::span<Product> products) {
  std::size_t count = 0;
  for (const RoleProduct& matrix : matrices) {
    const LowRank& adapter = adapters.at(matrix.role);
    if (adapter) products[count++] = {&adapter.a, buffers.low_rank.inner[adapter_index(matrix.role)], adapter.rank()};
  }
  return count;
}

// y[t] += (s X A^T) B^T of rows [first, first + rows), whose narrow halves lie at the beginning of their buffers.
void add_outer_products(const BlockRun& run, const AdaptedRows& adapted, const BlockBuffers& buffers,
                        std::span<const RoleProduct> matrices) {
  for (const RoleProduct& matrix : matrices) {
    const LowRank& adapter = adapted.adapters->at(matrix.role);
    if (!adapter) continue;
    float* const inner = buffers.low_rank.inner[adapter_index(matrix.role)];
    scale_inner(run.device, inner, adapted.rows * adapter.rank(), adapter.scale);
    const std::array<Product, 1> outer{{{&adapter.b, buffers.low_rank.delta, adapter.b.shape[0]}}};
    Activations narrow = run.activations.prepare(inner, adapted.rows, adapter.rank());
    matmul_forward(run.device, narrow, outer);
    const RoleProduct rows{matrix.role, matrix.y + adapted.first * matrix.stride, matrix.stride};
    add_rows(run.device, rows, buffers.low_rank.delta, adapted.rows, adapter.b.shape[0]);
  }
}

// Y = X W^T, with adapters + (s X A^T) B^T, for up to three matrices of one X [rows, width].
void multiply(const BlockRun& run, const BlockWeights& weights, const BlockBuffers& buffers, const float* x, std::int64_t rows,
              std::int64_t width, std::span<const RoleProduct> matrices) {
  std::array<Product, 6> products;
  std::size_t count = 0;
  for (const RoleProduct& matrix : matrices) products[count++] = {&weights.matrices.at(matrix.role), matrix.y, matrix.stride};
  if (weights.adapters != nullptr)
    count += add_inner_products(*weights.adapters, buffers, matrices, std::span(products).subspan(count));
  Activations activations = run.activations.prepare(x, rows, width);
  matmul_forward(run.device, activations, std::span(products).first(count));
  if (weights.adapters != nullptr) add_outer_products(run, {0, rows, weights.adapters}, buffers, matrices);

  for (const AdaptedRows& adapted : weights.row_adapters) {
    count = add_inner_products(*adapted.adapters, buffers, matrices, products);
    if (count == 0) continue;
    Activations own = run.activations.prepare(x + adapted.first * width, adapted.rows, width);
    matmul_forward(run.device, own, std::span(products).first(count));
    add_outer_products(run, adapted, buffers, matrices);
  }
}

// rms_norm, then queries (where wanted), keys and values of all rows, turned to their positions.
void project(const BlockRun& run, const BlockWeights& weights, const BlockBatch& batch, const BlockBuffers& buffers,
             bool with_queries) {
  const ModelConfig& config = run.config;
  const std::int64_t query_width = config.heads * config.head_width, kv_width = config.kv_heads * config.head_width;
  const std::int64_t stride = query_width + 2 * kv_width;
  float* const k = buffers.qkv + query_width;  // [T, G, E], rows `stride` apart
  float* const v = k + kv_width;               // [T, G, E], rows `stride` apart

  rms_norm_forward(run.device, buffers.x, weights.attention_norm, static_cast<float>(config.norm_eps), batch.rows, config.width,
                   buffers.attention_norm);
  const std::array<RoleProduct, 3> products{
      {{WeightRole::kKey, k, stride}, {WeightRole::kValue, v, stride}, {WeightRole::kQuery, buffers.qkv, stride}}};
  multiply(run, weights, buffers, buffers.attention_norm, batch.rows, config.width,
           std::span(products).first(with_queries ? 3 : 2));

  const RopeRows keys{k, batch.rows, config.kv_heads, config.head_width, stride};
  rope_forward(run.device, keys, batch.rope_table, config.rope_pairing);
  if (with_queries) {
    const RopeRows queries{buffers.qkv, batch.rows, config.heads, config.head_width, stride};
    rope_forward(run.device, queries, batch.rope_table, config.rope_pairing);
  }
}

void store(const BlockRun& run, const PagedKv& kv, const BlockBuffers& buffers) {
  const std::int64_t query_width = run.config.heads * run.config.head_width, kv_width = run.config.kv_heads * run.config.head_width;
  const float* const k = buffers.qkv + query_width;
  kv_store(run.device, kv.layer, kv.sequences, {k, k + kv_width, query_width + 2 * kv_width});
}

void attend(const BlockRun& run, const KvLayer& layer, std::span<const BatchSequence> sequences, const BlockBuffers& buffers) {
  const std::int64_t stride = (run.config.heads + 2 * run.config.kv_heads) * run.config.head_width;
  attention_forward(run.device, layer, sequences, {buffers.qkv, run.config.heads, stride, buffers.attention});
}

void attend(const BlockRun& run, const PackedKv& kv, const BlockBuffers& buffers) {
  packed_attention_forward(run.device, packed_rows(run.config, buffers.qkv), kv.segments, buffers.attention, kv.log_sum_exp);
}

// The output product of attention and the feed-forward network up to its last product. Products of the residual stream are written
// where their sum with it shall lie, and the stream is added to them.
void finish_but_down(const BlockRun& run, const BlockWeights& weights, const BlockBuffers& buffers, std::int64_t rows) {
  const ModelConfig& config = run.config;
  const std::array<RoleProduct, 1> output{{{WeightRole::kAttentionOutput, buffers.x_middle, config.width}}};
  multiply(run, weights, buffers, buffers.attention, rows, config.heads * config.head_width, output);
  add_forward(run.device, buffers.x_middle, buffers.x, rows, config.width);

  rms_norm_forward(run.device, buffers.x_middle, weights.feed_forward_norm, static_cast<float>(config.norm_eps), rows, config.width,
                   buffers.feed_forward_norm);
  const std::array<RoleProduct, 2> gate_up{
      {{WeightRole::kGate, buffers.gate, config.feed_forward}, {WeightRole::kUp, buffers.up, config.feed_forward}}};
  multiply(run, weights, buffers, buffers.feed_forward_norm, rows, config.width, gate_up);
  swiglu_forward(run.device, buffers.gate, buffers.up, rows, config.feed_forward, buffers.activated);
}

void finish(const BlockRun& run, const BlockWeights& weights, const BlockBuffers& buffers, std::int64_t rows) {
  finish_but_down(run, weights, buffers, rows);
  const ModelConfig& config = run.config;
  const std::array<RoleProduct, 1> down{{{WeightRole::kDown, buffers.x_out, config.width}}};
  multiply(run, weights, buffers, buffers.activated, rows, config.feed_forward, down);
  add_forward(run.device, buffers.x_out, buffers.x_middle, rows, config.width);
}

// x [T, width] -> its given rows, moved to the front: x [R, width]. They ascend, so none is overwritten before it is moved.
void gather_rows(float* x, std::span<const std::int32_t> rows, std::int64_t width) {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (static_cast<std::size_t>(rows[i]) != i) std::copy_n(x + rows[i] * width, width, x + static_cast<std::int64_t>(i) * width);
  }
}

}  // namespace

PackedRows packed_rows(const ModelConfig& config, const float* qkv) {
  const std::int64_t query_width = config.heads * config.head_width, kv_width = config.kv_heads * config.head_width;
  return {.q = qkv,
          .k = qkv + query_width,
          .v = qkv + query_width + kv_width,
          .stride = query_width + 2 * kv_width,
          .heads = config.heads,
          .kv_heads = config.kv_heads,
          .head_width = config.head_width};
}

void scale_inner(Device& device, float* inner, std::int64_t count, float scale) {
  if (scale == 1) return;
  device.pool.split(count, 1024, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) inner[i] *= scale;
  });
}

void block_forward(const BlockRun& run, const BlockWeights& weights, const BlockBatch& batch, const KvView& kv,
                   const BlockBuffers& buffers) {
  project(run, weights, batch, buffers, true);
  if (const auto* const paged = std::get_if<PagedKv>(&kv)) {
    store(run, *paged, buffers);
    attend(run, paged->layer, paged->sequences, buffers);
  } else {
    attend(run, std::get<PackedKv>(kv), buffers);
  }
  finish(run, weights, buffers, batch.rows);
}

void block_forward_again(const BlockRun& run, const BlockWeights& weights, const BlockBatch& batch, const PackedKv& kv,
                         const BlockBuffers& buffers) {
  project(run, weights, batch, buffers, true);
  attend(run, kv, buffers);
  finish_but_down(run, weights, buffers, batch.rows);
  if (weights.adapters == nullptr || !weights.adapters->at(WeightRole::kDown)) return;
  const LowRank& adapter = weights.adapters->at(WeightRole::kDown);
  float* const inner = buffers.low_rank.inner[adapter_index(WeightRole::kDown)];
  const std::array<Product, 1> narrow{{{&adapter.a, inner, adapter.rank()}}};
  Activations activations = run.activations.prepare(buffers.activated, batch.rows, run.config.feed_forward);
  matmul_forward(run.device, activations, narrow);
  scale_inner(run.device, inner, batch.rows * adapter.rank(), adapter.scale);
}

void last_block_forward(const BlockRun& run, const BlockWeights& weights, const BlockBatch& batch, const PagedKv& kv,
                        const BlockBuffers& buffers, const WantedRows& wanted) {
  project(run, weights, batch, buffers, !wanted.rows.empty());
  store(run, kv, buffers);
  if (wanted.rows.empty()) return;
  attend(run, kv.layer, wanted.sequences, buffers);
  gather_rows(buffers.attention, wanted.rows, run.config.heads * run.config.head_width);
  gather_rows(buffers.x, wanted.rows, run.config.width);
  BlockWeights of_wanted = weights;
  of_wanted.row_adapters = wanted.row_adapters;
  finish(run, of_wanted, buffers, static_cast<std::int64_t>(wanted.rows.size()));
}

}  // namespace puna
