// SPDX-License-Identifier: Apache-2.0
// Products that read the same activations are one call: one rounding to 8 bits, one pass over the threads. The narrow halves of
// adapters that all rows have go along in that call; rows that have their own get them added afterwards.
#include "model/block.h"

#include <algorithm>
#include <array>
#include <cstddef>

#include "kernels/collective.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/rows.h"
#include "kernels/swiglu.h"

namespace puna {
namespace {

// Y = X W^T for the matrix of one role.
struct RoleProduct {
  WeightRole role;
  float* y;  // [rows, N], rows `stride` apart
  std::int64_t stride;
};

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
    scale_values(run.device, inner, adapted.rows * adapter.rank(), adapter.scale);
    const std::array<Product, 1> outer{{{&adapter.b, buffers.low_rank.delta, adapter.b.shape[0]}}};
    Activations narrow = run.activations.prepare(inner, adapted.rows, adapter.rank());
    matmul_forward(run.device, narrow, outer);
    add_strided(run.device, matrix.y + adapted.first * matrix.stride, matrix.stride, buffers.low_rank.delta, adapted.rows,
                adapter.b.shape[0]);
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

bool has_adapters(const BlockWeights& weights) { return weights.adapters != nullptr || !weights.row_adapters.empty(); }

// The products of rms_norm(x) [rows, D].
struct NormedInput {
  const float* x;
  const float* weight;
  float* normed;  // where adapters, and all products on the CPU, read it
};
void multiply_normed(const BlockRun& run, const BlockWeights& weights, const BlockBuffers& buffers, const NormedInput& input,
                     std::int64_t rows, std::span<const RoleProduct> matrices) {
  const auto eps = static_cast<float>(run.config.norm_eps);
  if (has_adapters(weights)) {
    rms_norm_forward(run.device, input.x, input.weight, eps, rows, run.config.width, input.normed);
    return multiply(run, weights, buffers, input.normed, rows, run.config.width, matrices);
  }
  std::array<Product, 3> products;
  std::size_t count = 0;
  for (const RoleProduct& matrix : matrices) products[count++] = {&weights.matrices.at(matrix.role), matrix.y, matrix.stride};
  Activations activations =
      run.activations.prepare_normed(run.device, input.x, {input.weight, eps, input.normed}, rows, run.config.width);
  matmul_forward(run.device, activations, std::span(products).first(count));
}

// Queries (where wanted), keys and values of all rows, not yet turned to their positions.
void project(const BlockRun& run, const BlockWeights& weights, const BlockBuffers& buffers, std::int64_t rows, bool with_queries) {
  const ModelConfig& config = run.config;
  const std::int64_t query_width = config.heads * config.head_width, kv_width = config.kv_heads * config.head_width;
  const std::int64_t stride = query_width + 2 * kv_width;
  float* const k = buffers.qkv + query_width;  // [T, G, E], rows `stride` apart
  float* const v = k + kv_width;               // [T, G, E], rows `stride` apart
  const std::array<RoleProduct, 3> products{
      {{WeightRole::kQuery, buffers.qkv, stride}, {WeightRole::kKey, k, stride}, {WeightRole::kValue, v, stride}}};
  multiply_normed(run, weights, buffers, {buffers.x, weights.attention_norm, buffers.attention_norm}, rows,
                  std::span(products).subspan(with_queries ? 0 : 1));
}

// Queries and keys of a packed batch to their positions; they lie side by side.
void turn(const BlockRun& run, const BlockBatch& batch, const BlockBuffers& buffers) {
  const ModelConfig& config = run.config;
  const std::int64_t stride = (config.heads + 2 * config.kv_heads) * config.head_width;
  const RopeRows turned{buffers.qkv, batch.rows, config.heads + config.kv_heads, config.head_width, stride};
  rope_forward(run.device, turned, batch.rope_table, config.rope_pairing);
}

RopeStore rope_store(const BlockRun& run, const BlockBatch& batch, const BlockBuffers& buffers, bool with_queries) {
  const ModelConfig& config = run.config;
  const std::int64_t stride = (config.heads + 2 * config.kv_heads) * config.head_width;
  return {buffers.qkv, config.heads, stride, batch.rope_table, config.rope_pairing, with_queries};
}

void attend(const BlockRun& run, const KvLayer& layer, const KvBatch& batch, const BlockBuffers& buffers) {
  const std::int64_t stride = (run.config.heads + 2 * run.config.kv_heads) * run.config.head_width;
  attention_forward(run.device, layer, batch, {buffers.qkv, run.config.heads, stride, buffers.attention});
}

void attend(const BlockRun& run, const PackedKv& kv, const BlockBuffers& buffers) {
  packed_attention_forward(run.device, packed_rows(run.config, buffers.qkv), kv.segments, buffers.attention, kv.log_sum_exp);
}

// y [rows, D] = residual + X W^T, the sums of the residual stream. Ranks of a team have columns of X and W each: rank 0 brings the
// residual, and y is summed over them.
void multiply_onto(const BlockRun& run, const BlockWeights& weights, const BlockBuffers& buffers, const float* x, std::int64_t rows,
                   std::int64_t width, const RoleProduct& matrix, const float* residual) {
  const bool first = run.device.rank == 0;
  if (has_adapters(weights)) {
    multiply(run, weights, buffers, x, rows, width, {&matrix, 1});
    if (first) add_forward(run.device, matrix.y, residual, rows, run.config.width);
  } else {
    const std::array<Product, 1> products{
        {{&weights.matrices.at(matrix.role), matrix.y, matrix.stride, first ? residual : nullptr}}};
    Activations activations = run.activations.prepare(x, rows, width);
    matmul_forward(run.device, activations, products);
  }
  sum_over_ranks(run.device, matrix.y, rows * run.config.width);
}

// The output product of attention and the feed-forward network up to its last product.
void finish_but_down(const BlockRun& run, const BlockWeights& weights, const BlockBuffers& buffers, std::int64_t rows) {
  const ModelConfig& config = run.config;
  multiply_onto(run, weights, buffers, buffers.attention, rows, config.heads * config.head_width,
                {WeightRole::kAttentionOutput, buffers.x_middle, config.width}, buffers.x);

  const NormedInput input{buffers.x_middle, weights.feed_forward_norm, buffers.feed_forward_norm};
  const bool separate = has_adapters(weights) || buffers.activated != buffers.gate;  // training keeps gate and up
  if (separate) {
    const std::array<RoleProduct, 2> gate_up{
        {{WeightRole::kGate, buffers.gate, config.feed_forward}, {WeightRole::kUp, buffers.up, config.feed_forward}}};
    multiply_normed(run, weights, buffers, input, rows, gate_up);
    return swiglu_forward(run.device, buffers.gate, buffers.up, rows, config.feed_forward, buffers.activated);
  }
  Activations activations = run.activations.prepare_normed(
      run.device, input.x, {input.weight, static_cast<float>(config.norm_eps), input.normed}, rows, config.width);
  gated_matmul_forward(run.device, activations,
                       {&weights.matrices.gate, &weights.matrices.up, buffers.gate, buffers.up, buffers.activated});
}

void finish(const BlockRun& run, const BlockWeights& weights, const BlockBuffers& buffers, std::int64_t rows) {
  finish_but_down(run, weights, buffers, rows);
  multiply_onto(run, weights, buffers, buffers.activated, rows, run.config.feed_forward,
                {WeightRole::kDown, buffers.x_out, run.config.width}, buffers.x_middle);
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

void block_forward(const BlockRun& run, const BlockWeights& weights, const BlockBatch& batch, const KvView& kv,
                   const BlockBuffers& buffers) {
  project(run, weights, buffers, batch.rows, true);
  if (const auto* const paged = std::get_if<PagedKv>(&kv)) {
    rope_store_and_attend(run.device, paged->layer, paged->batch, rope_store(run, batch, buffers, true), buffers.attention);
  } else {
    turn(run, batch, buffers);
    attend(run, std::get<PackedKv>(kv), buffers);
  }
  finish(run, weights, buffers, batch.rows);
}

void block_forward_again(const BlockRun& run, const BlockWeights& weights, const BlockBatch& batch, const PackedKv& kv,
                         const BlockBuffers& buffers) {
  project(run, weights, buffers, batch.rows, true);
  turn(run, batch, buffers);
  attend(run, kv, buffers);
  finish_but_down(run, weights, buffers, batch.rows);
  if (weights.adapters == nullptr || !weights.adapters->at(WeightRole::kDown)) return;
  const LowRank& adapter = weights.adapters->at(WeightRole::kDown);
  float* const inner = buffers.low_rank.inner[adapter_index(WeightRole::kDown)];
  const std::array<Product, 1> narrow{{{&adapter.a, inner, adapter.rank()}}};
  Activations activations = run.activations.prepare(buffers.activated, batch.rows, run.config.feed_forward);
  matmul_forward(run.device, activations, narrow);
  scale_values(run.device, inner, batch.rows * adapter.rank(), adapter.scale);
}

void last_block_forward(const BlockRun& run, const BlockWeights& weights, const BlockBatch& batch, const PagedKv& kv,
                        const BlockBuffers& buffers, const WantedRows& wanted) {
  project(run, weights, buffers, batch.rows, !wanted.rows.empty());
  const RopeStore rows = rope_store(run, batch, buffers, !wanted.rows.empty());
  if (static_cast<std::int64_t>(wanted.rows.size()) == batch.rows) {
    rope_store_and_attend(run.device, kv.layer, kv.batch, rows, buffers.attention);
    return finish(run, weights, buffers, batch.rows);
  }
  rope_and_store(run.device, kv.layer, kv.batch, rows);
  if (wanted.rows.empty()) return;
  attend(run, kv.layer, wanted.batch, buffers);
  gather_rows(run.device, buffers.attention, wanted.rows, run.config.heads * run.config.head_width, buffers.attention);
  gather_rows(run.device, buffers.x, wanted.rows, run.config.width, buffers.x);
  BlockWeights of_wanted = weights;
  of_wanted.row_adapters = wanted.row_adapters;
  finish(run, of_wanted, buffers, static_cast<std::int64_t>(wanted.rows.size()));
}

}  // namespace puna
