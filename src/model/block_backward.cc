// SPDX-License-Identifier: Apache-2.0
// The block backwards, bottom of the page to top: feed-forward network, then attention. Each half first computes again what it fed
// to its products, then takes the gradients of weights, then that of the residual stream.
#include "model/block_backward.h"

#include <cstddef>
#include <cstdint>

#include "kernels/collective.h"
#include "kernels/matmul.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/rows.h"
#include "kernels/swiglu.h"

namespace puna {
namespace {

// What every step of one backward reads.
struct Pass {
  const BlockRun& run;
  const BlockWeights& weights;
  const BlockBatch& batch;
  const BlockBackward& backward;
};

// The gradient of one matrix's product.
struct RoleGradient {
  WeightRole role;
  const float* dy;  // [T, N], rows `stride` apart
  std::int64_t stride;
};

// Through an adapter, y = … + B u, u = s A x:  dB += dy^T u,  du = dy B,  dA += (s du)^T x,  dx += s du A
void adapter_backward(const Pass& pass, const RoleGradient& product, const float* x, float* dx) {
  const std::size_t index = adapter_index(product.role);
  const LowRank& adapter = pass.weights.adapters->matrices[index];
  const LowRankGradient& gradient = pass.backward.gradients.adapters[index];
  const std::int64_t rank = adapter.rank(), inputs = adapter.a.shape[1], outputs = adapter.b.shape[0];
  float* const dinner = pass.backward.scratch.dinner;
  Device& device = pass.run.device;
  if (gradient.b != nullptr) {
    matmul_backward_weight(device,
                           {product.dy, product.stride, pass.backward.kept.low_rank.inner[index], outputs, rank, gradient.b},
                           pass.batch.rows, Gradient::kAdd);
  }
  const std::array<OutputGradient, 1> outer{{{&adapter.b, product.dy, product.stride}}};
  matmul_backward_input(device, outer, pass.batch.rows, dinner, Gradient::kReplace);
  scale_values(device, dinner, pass.batch.rows * rank, adapter.scale);
  if (gradient.a != nullptr) {
    matmul_backward_weight(device, {dinner, rank, x, rank, inputs, gradient.a}, pass.batch.rows, Gradient::kAdd);
  }
  const std::array<OutputGradient, 1> inner{{{&adapter.a, dinner, rank}}};
  matmul_backward_input(device, inner, pass.batch.rows, dx, Gradient::kAdd);
}

// The products of one x [T, K]: gradients of their weights, and dx [T, K] replaced by the sum over them.
void products_backward(const Pass& pass, std::span<const RoleGradient> products, const float* x, float* dx) {
  std::array<ProductGradient, 3> gradients{};
  std::size_t count = 0;
  for (const RoleGradient& product : products) {
    gradients[count++] = {&pass.weights.matrices.at(product.role), product.dy, product.stride,
                          pass.backward.gradients.matrices[adapter_index(product.role)]};
  }
  matmul_backward(pass.run.device, std::span(gradients).first(count), x, pass.batch.rows, dx);
  if (pass.weights.adapters == nullptr) return;
  for (const RoleGradient& product : products) {
    if (pass.weights.adapters->at(product.role)) adapter_backward(pass, product, x, dx);
  }
}

// dx [T, D] of x_out -> of x_middle
void feed_forward_backward(const Pass& pass) {
  const ModelConfig& config = pass.run.config;
  Device& device = pass.run.device;
  const BlockBuffers& kept = pass.backward.kept;
  const BlockBackwardBuffers& scratch = pass.backward.scratch;
  float* const dx = pass.backward.dx;  // [T, D]
  const auto eps = static_cast<float>(config.norm_eps);

  swiglu_forward(device, kept.gate, kept.up, pass.batch.rows, config.feed_forward, scratch.feed_forward);
  const std::array<RoleGradient, 1> down{{{WeightRole::kDown, dx, config.width}}};
  products_backward(pass, down, scratch.feed_forward, scratch.dfeed_forward);

  float *const dgate = scratch.dfeed_forward, *const dup = scratch.feed_forward;
  swiglu_backward(device, {kept.gate, kept.up, scratch.dfeed_forward, dgate, dup}, pass.batch.rows, config.feed_forward);

  rms_norm_forward(device, kept.x_middle, pass.weights.feed_forward_norm, eps, pass.batch.rows, config.width, scratch.norm);
  const std::array<RoleGradient, 2> gate_up{
      {{WeightRole::kGate, dgate, config.feed_forward}, {WeightRole::kUp, dup, config.feed_forward}}};
  products_backward(pass, gate_up, scratch.norm, scratch.dnorm);
  sum_over_ranks(device, scratch.dnorm, pass.batch.rows * config.width);
  rms_norm_backward(
      device, {kept.x_middle, pass.weights.feed_forward_norm, scratch.dnorm, eps, dx, pass.backward.gradients.feed_forward_norm},
      pass.batch.rows, config.width);
}

// dx [T, D] of x_middle -> of x
void attention_backward(const Pass& pass, const PackedKv& kv) {
  const ModelConfig& config = pass.run.config;
  Device& device = pass.run.device;
  const BlockBuffers& kept = pass.backward.kept;
  const BlockBackwardBuffers& scratch = pass.backward.scratch;
  float* const dx = pass.backward.dx;  // [T, D]
  const auto eps = static_cast<float>(config.norm_eps);
  const std::int64_t query_width = config.heads * config.head_width, kv_width = config.kv_heads * config.head_width;
  const std::int64_t stride = query_width + 2 * kv_width;
  float* const dq = scratch.dqkv;
  float *const dk = dq + query_width, *const dv = dk + kv_width;

  const std::array<RoleGradient, 1> output{{{WeightRole::kAttentionOutput, dx, config.width}}};
  products_backward(pass, output, kept.attention, scratch.dattention);
  packed_attention_backward(device, packed_rows(config, kept.qkv), kv.segments,
                            {kept.attention, kv.log_sum_exp, scratch.dattention, dq, dk, dv, stride});
  // Queries and keys lie side by side: one call turns the heads of both back.
  const RopeRows turned{dq, pass.batch.rows, config.heads + config.kv_heads, config.head_width, stride};
  rope_backward(device, turned, pass.batch.rope_table, config.rope_pairing);

  rms_norm_forward(device, kept.x, pass.weights.attention_norm, eps, pass.batch.rows, config.width, scratch.norm);
  const std::array<RoleGradient, 3> qkv{
      {{WeightRole::kKey, dk, stride}, {WeightRole::kValue, dv, stride}, {WeightRole::kQuery, dq, stride}}};
  products_backward(pass, qkv, scratch.norm, scratch.dnorm);
  sum_over_ranks(device, scratch.dnorm, pass.batch.rows * config.width);
  rms_norm_backward(device, {kept.x, pass.weights.attention_norm, scratch.dnorm, eps, dx, pass.backward.gradients.attention_norm},
                    pass.batch.rows, config.width);
}

}  // namespace

void block_backward(const BlockRun& run, const BlockWeights& weights, const BlockBatch& batch, const PackedKv& kv,
                    const BlockBackward& backward) {
  const Pass pass{run, weights, batch, backward};
  feed_forward_backward(pass);
  attention_backward(pass, kv);
}

}  // namespace puna
