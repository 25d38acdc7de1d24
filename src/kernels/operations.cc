// SPDX-License-Identifier: Apache-2.0
// The fronts of all operations: each checks shapes once for every device and calls the device's row of the table.
#include <algorithm>
#include <array>
#include <initializer_list>
#include <limits>
#include <utility>

#include "base/error.h"
#include "kernels/kernel_table.h"

namespace puna {
namespace {

void check(const Activations& x, const Tensor& w) {
  PUNA_CHECK(w.shape.rank() == 2 && w.shape[1] == x.width, "matmul", "weight {} is {}, but the activations are [{}, {}]", w.name,
             w.shape.text(), x.rows, x.width);
  PUNA_CHECK(info(w.format).block_values == 1 || x.width % 32 == 0, "matmul",
             "weight {} has rows of {} values, not a multiple of 32", w.name, x.width);
}

void check(const RopeRows& rows) {
  PUNA_CHECK(rows.rows >= 0 && rows.width > 0 && rows.width % 2 == 0 && rows.heads * rows.width <= rows.stride, "rope",
             "{} heads of width {} in rows {} apart; the width must be even and the heads fit the row", rows.heads, rows.width,
             rows.stride);
}

void check(const PackedRows& rows, std::span<const PackedSegment> segments) {
  PUNA_CHECK(rows.kv_heads > 0 && rows.heads > 0 && rows.heads % rows.kv_heads == 0 && rows.head_width > 0, "packed_attention",
             "{} query heads for {} key/value heads of width {}", rows.heads, rows.kv_heads, rows.head_width);
  std::int64_t next = 0;
  for (const PackedSegment& segment : segments) {
    PUNA_CHECK(segment.first_row == next && segment.rows > 0, "packed_attention", "a segment of {} rows at row {}, expected row {}",
               segment.rows, segment.first_row, next);
    next += segment.rows;
    if (segment.prefix_rows == 0) continue;
    const auto prefix = prefix_of(segments, segment);
    PUNA_CHECK(segment.prefix_row < segment.first_row && prefix != segments.end() && prefix->first_row == segment.prefix_row &&
                   prefix->rows == segment.prefix_rows,
               "packed_attention", "rows [{}, {}) are the prefix of the segment at row {}, but no segment before it",
               segment.prefix_row, segment.prefix_row + segment.prefix_rows, segment.first_row);
  }
}

void check(const AdamwStep& step, std::size_t count, std::initializer_list<std::size_t> others) {
  PUNA_CHECK(step.step >= 1, "adamw", "step {}: the first is 1", step.step);
  for (const std::size_t other : others)
    PUNA_CHECK(other == count, "adamw", "{} weights, but a gradient or state of {}", count, other);
}

void check_distillation(std::int64_t vocabulary, double temperature) {
  PUNA_CHECK(vocabulary > 0 && temperature > 0, "distillation", "a vocabulary of {} at temperature {}", vocabulary, temperature);
}

}  // namespace

void matmul_forward(Device& device, Activations& x, std::span<const Product> products) {
  for (const Product& product : products) check(x, *product.weight);
  if (x.rows > 0) device.kernels().matmul_forward(device, x, products);
}

void gated_matmul_forward(Device& device, Activations& x, const GatedProduct& product) {
  check(x, *product.gate_weight);
  check(x, *product.up_weight);
  PUNA_CHECK(product.gate_weight->shape == product.up_weight->shape, "matmul", "a gate of {} for {}",
             product.gate_weight->shape.text(), product.up_weight->shape.text());
  if (x.rows > 0) device.kernels().gated_matmul_forward(device, x, product);
}

void matmul_backward_input(Device& device, std::span<const OutputGradient> products, std::int64_t rows, float* dx, Gradient mode) {
  for (const OutputGradient& product : products) {
    const Tensor& w = *product.weight;
    PUNA_CHECK(w.shape.rank() == 2 && w.shape[1] == products[0].weight->shape[1] && w.shape[0] <= product.stride, "matmul_backward",
               "weight {} is {}, its outputs lie {} apart and the inputs are {} wide", w.name, w.shape.text(), product.stride,
               products[0].weight->shape.row_length());
  }
  device.kernels().matmul_backward_input(device, products, rows, dx, mode);
}

void matmul_backward_weight(Device& device, const WeightGradient& gradient, std::int64_t rows, Gradient mode) {
  device.kernels().matmul_backward_weight(device, gradient, rows, mode);
}

void matmul_backward(Device& device, std::span<const ProductGradient> products, const float* x, std::int64_t rows, float* dx) {
  if (const auto together = device.kernels().matmul_backward) return together(device, products, x, rows, dx);
  Gradient mode = Gradient::kReplace;
  for (const ProductGradient& product : products) {
    const std::int64_t outputs = product.weight->shape[0], inputs = product.weight->shape[1];
    if (product.dw != nullptr) {
      matmul_backward_weight(device, {product.dy, product.stride, x, outputs, inputs, product.dw}, rows, Gradient::kAdd);
    }
  }
  for (const ProductGradient& product : products) {
    const std::array<OutputGradient, 1> output{{{product.weight, product.dy, product.stride}}};
    matmul_backward_input(device, output, rows, dx, std::exchange(mode, Gradient::kAdd));
  }
}

void rms_norm_forward(Device& device, const float* x, const float* weight, float eps, std::int64_t rows, std::int64_t width,
                      float* y) {
  PUNA_CHECK(rows >= 0 && width > 0, "rms_norm", "shape [{}, {}]", rows, width);
  device.kernels().rms_norm_forward(device, x, weight, eps, rows, width, y);
}

void rms_norm_backward(Device& device, const RmsNormGradient& gradient, std::int64_t rows, std::int64_t width) {
  PUNA_CHECK(rows >= 0 && width > 0, "rms_norm", "shape [{}, {}]", rows, width);
  device.kernels().rms_norm_backward(device, gradient, rows, width);
}

void add_forward(Device& device, float* x, const float* delta, std::int64_t rows, std::int64_t width) {
  PUNA_CHECK(rows >= 0 && width >= 0, "add", "shape [{}, {}]", rows, width);
  device.kernels().add_forward(device, x, delta, rows, width);
}

void swiglu_forward(Device& device, const float* gate, const float* up, std::int64_t rows, std::int64_t width, float* out) {
  PUNA_CHECK(rows >= 0 && width >= 0, "swiglu", "shape [{}, {}]", rows, width);
  device.kernels().swiglu_forward(device, gate, up, rows, width, out);
}

void swiglu_backward(Device& device, const SwigluGradient& gradient, std::int64_t rows, std::int64_t width) {
  PUNA_CHECK(rows >= 0 && width >= 0, "swiglu", "shape [{}, {}]", rows, width);
  device.kernels().swiglu_backward(device, gradient, rows, width);
}

void rope_table(Device& device, std::span<const double> frequencies, std::span<const std::int32_t> positions, float* table) {
  device.kernels().rope_table(device, frequencies, positions, table);
}

void rope_forward(Device& device, const RopeRows& rows, const float* table, RopePairing pairing) {
  check(rows);
  device.kernels().rope_forward(device, rows, table, pairing);
}

void rope_backward(Device& device, const RopeRows& rows, const float* table, RopePairing pairing) {
  check(rows);
  device.kernels().rope_backward(device, rows, table, pairing);
}

void embed_forward(Device& device, const Tensor& embedding, std::span<const std::int32_t> tokens, float* x) {
  PUNA_CHECK(embedding.shape.rank() == 2, "embed", "embedding {} is {}", embedding.name, embedding.shape.text());
  device.kernels().embed_forward(device, embedding, tokens, x);
}

void embed_backward(Device& device, std::span<const std::int32_t> tokens, const float* dx, std::int64_t width, float* dembedding) {
  device.kernels().embed_backward(device, tokens, dx, width, dembedding);
}

void gather_rows(Device& device, const float* x, std::span<const std::int32_t> rows, std::int64_t width, float* y) {
  device.kernels().gather_rows(device, x, rows, width, y);
}

void scatter_add_rows(Device& device, const float* y, std::span<const std::int32_t> rows, std::int64_t width, float* x) {
  device.kernels().scatter_add_rows(device, y, rows, width, x);
}

void add_strided(Device& device, float* y, std::int64_t stride, const float* delta, std::int64_t rows, std::int64_t width) {
  device.kernels().add_strided(device, y, stride, delta, rows, width);
}

void scale_values(Device& device, float* x, std::int64_t count, float scale) {
  if (scale != 1) device.kernels().scale_values(device, x, count, scale);
}

void arg_max_rows(Device& device, const float* x, std::int64_t rows, std::int64_t width, const ArgMax& largest) {
  PUNA_CHECK(width > 0, "arg_max", "rows of {} numbers", width);
  device.kernels().arg_max_rows(device, x, rows, width, largest);
}

void round_values(Device& device, std::span<const float> values, Format format, std::byte* rounded) {
  PUNA_CHECK(info(format).block_values == 1, "round", "{} is no float format", info(format).name);
  device.kernels().round_values(device, values, format, rounded);
}

void shortlist_rows(Device& device, const LogitColumns& columns, const RowDraw* draws, Shortlist* found) {
  PUNA_CHECK(columns.width >= 0 && columns.width <= columns.stride && columns.stride <= std::numeric_limits<std::int32_t>::max(),
             "shortlist", "{} columns of rows {} apart", columns.width, columns.stride);
  if (columns.rows > 0) device.kernels().shortlist_rows(device, columns, draws, found);
}

void kv_store(Device& device, const KvLayer& layer, const KvBatch& batch, const KvRows& rows) {
  device.kernels().kv_store(device, layer, batch, rows);
}

void rope_and_store(Device& device, const KvLayer& layer, const KvBatch& batch, const RopeStore& rows) {
  PUNA_CHECK(rows.stride == (rows.heads + 2 * layer.kv_heads) * layer.head_width && layer.head_width % 2 == 0, "rope_and_store",
             "{} query heads and {} key/value heads of width {} in rows {} apart", rows.heads, layer.kv_heads, layer.head_width,
             rows.stride);
  device.kernels().rope_and_store(device, layer, batch, rows);
}

void attention_forward(Device& device, const KvLayer& layer, const KvBatch& batch, const AttentionQuery& query) {
  PUNA_CHECK(query.heads > 0 && query.heads % layer.kv_heads == 0, "attention", "{} query heads for {} key/value heads",
             query.heads, layer.kv_heads);
  device.kernels().attention_forward(device, layer, batch, query);
}

void rope_store_and_attend(Device& device, const KvLayer& layer, const KvBatch& batch, const RopeStore& rows, float* out) {
  PUNA_CHECK(rows.with_queries, "attention", "queries are not wanted");
  if (const auto fused = device.kernels().rope_store_and_attend) return fused(device, layer, batch, rows, out);
  rope_and_store(device, layer, batch, rows);
  attention_forward(device, layer, batch, {rows.qkv, rows.heads, rows.stride, out});
}

void packed_attention_forward(Device& device, const PackedRows& rows, std::span<const PackedSegment> segments, float* out,
                              float* log_sum_exp) {
  check(rows, segments);
  device.kernels().packed_attention_forward(device, rows, segments, out, log_sum_exp);
}

void packed_attention_backward(Device& device, const PackedRows& rows, std::span<const PackedSegment> segments,
                               const PackedAttentionGradient& gradient) {
  check(rows, segments);
  device.kernels().packed_attention_backward(device, rows, segments, gradient);
}

void target_log_probs(Device& device, const float* logits, const TargetRows& rows, double* log_probs) {
  device.kernels().target_log_probs(device, logits, rows, log_probs);
}

void cross_entropy_backward(Device& device, float* logits, const TargetRows& rows, const float* weights, double* log_probs) {
  device.kernels().cross_entropy_backward(device, logits, rows, weights, log_probs);
}

void sum_logits(Device& device, const float* logits, const TargetRows& rows, LogitSums* sums) {
  PUNA_CHECK(rows.vocabulary > 0, "cross_entropy", "rows of {} logits", rows.vocabulary);
  device.kernels().sum_logits(device, logits, rows, sums);
}

void softmax_gradient(Device& device, float* logits, const TargetRows& rows, const SoftmaxRows& softmax) {
  device.kernels().softmax_gradient(device, logits, rows, softmax);
}

void distillation_backward(Device& device, const float* student, const DistillationRows& rows, const float* weights, float* dlogits,
                           double* losses) {
  check_distillation(rows.vocabulary, rows.temperature);
  device.kernels().distillation_backward(device, student, rows, weights, dlogits, losses);
}

void top_k_log_probs(Device& device, const float* logits, std::int64_t rows, std::int64_t vocabulary, const TopKRows& top) {
  PUNA_CHECK(top.k >= 1 && top.k <= vocabulary, "top_k", "{} of a vocabulary of {}", top.k, vocabulary);
  device.kernels().top_k_log_probs(device, logits, rows, vocabulary, top);
}

void top_k_distillation_backward(Device& device, const float* student, const TopKDistillationRows& rows, const float* weights,
                                 float* dlogits, double* losses) {
  check_distillation(rows.vocabulary, rows.temperature);
  device.kernels().top_k_distillation_backward(device, student, rows, weights, dlogits, losses);
}

void adamw_update(Device& device, const AdamwStep& step, std::span<float> weight, std::span<const float> gradient,
                  std::span<float> m, std::span<float> v) {
  check(step, weight.size(), {gradient.size(), m.size(), v.size()});
  device.kernels().adamw_update(device, step, weight, gradient, m, v);
}

void adamw_update(Device& device, const AdamwStep& step, std::span<float> weight, std::span<const float> gradient,
                  const Adamw8BitState& state) {
  const std::size_t blocks = (weight.size() + kAdamwBlock - 1) / kAdamwBlock;
  check(step, weight.size(), {gradient.size(), state.m.size(), state.v.size()});
  check(step, blocks, {state.m_scale.size(), state.v_scale.size()});
  device.kernels().adamw_update_8bit(device, step, weight, gradient, state);
}

double sum_of_squares(Device& device, std::span<const float> x) { return device.kernels().sum_of_squares(device, x); }

}  // namespace puna
