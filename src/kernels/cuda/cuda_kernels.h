// SPDX-License-Identifier: Apache-2.0
// The GPU's operations, row for row those of kernels/kernel_table.h. Shapes have been checked by the fronts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/kernel_table.h"

namespace puna::cuda {

void matmul_forward(Device& device, Activations& x, std::span<const Product> products);
void gated_matmul_forward(Device& device, Activations& x, const GatedProduct& product);
void matmul_backward_input(Device& device, std::span<const OutputGradient> products, std::int64_t rows, float* dx, Gradient mode);
void matmul_backward_weight(Device& device, const WeightGradient& gradient, std::int64_t rows, Gradient mode);
void matmul_backward(Device& device, std::span<const ProductGradient> products, const float* x, std::int64_t rows, float* dx);

void rms_norm_forward(Device& device, const float* x, const float* weight, float eps, std::int64_t rows, std::int64_t width,
                      float* y);
void rms_norm_backward(Device& device, const RmsNormGradient& gradient, std::int64_t rows, std::int64_t width);
void add_forward(Device& device, float* x, const float* delta, std::int64_t rows, std::int64_t width);
void swiglu_forward(Device& device, const float* gate, const float* up, std::int64_t rows, std::int64_t width, float* out);
void swiglu_backward(Device& device, const SwigluGradient& gradient, std::int64_t rows, std::int64_t width);
void rope_table(Device& device, std::span<const double> frequencies, std::span<const std::int32_t> positions, float* table);
void rope_forward(Device& device, const RopeRows& rows, const float* table, RopePairing pairing);
void rope_backward(Device& device, const RopeRows& rows, const float* table, RopePairing pairing);

void embed_forward(Device& device, const Tensor& embedding, std::span<const std::int32_t> tokens, float* x);
void embed_backward(Device& device, std::span<const std::int32_t> tokens, const float* dx, std::int64_t width, float* dembedding);
void gather_rows(Device& device, const float* x, std::span<const std::int32_t> rows, std::int64_t width, float* y);
void scatter_add_rows(Device& device, const float* y, std::span<const std::int32_t> rows, std::int64_t width, float* x);
void add_strided(Device& device, float* y, std::int64_t stride, const float* delta, std::int64_t rows, std::int64_t width);
void scale_values(Device& device, float* x, std::int64_t count, float scale);
void arg_max_rows(Device& device, const float* x, std::int64_t rows, std::int64_t width, const ArgMax& largest);
void round_values(Device& device, std::span<const float> values, Format format, std::byte* rounded);
void shortlist_rows(Device& device, const LogitColumns& columns, const RowDraw* draws, Shortlist* found);

void kv_store(Device& device, const KvLayer& layer, const KvBatch& batch, const KvRows& rows);
void rope_and_store(Device& device, const KvLayer& layer, const KvBatch& batch, const RopeStore& rows);
void attention_forward(Device& device, const KvLayer& layer, const KvBatch& batch, const AttentionQuery& query);
void rope_store_and_attend(Device& device, const KvLayer& layer, const KvBatch& batch, const RopeStore& rows, float* out);
void packed_attention_forward(Device& device, const PackedRows& rows, std::span<const PackedSegment> segments, float* out,
                              float* log_sum_exp);
void packed_attention_backward(Device& device, const PackedRows& rows, std::span<const PackedSegment> segments,
                               const PackedAttentionGradient& gradient);

void target_log_probs(Device& device, const float* logits, const TargetRows& rows, double* log_probs);
void cross_entropy_backward(Device& device, float* logits, const TargetRows& rows, const float* weights, double* log_probs);
void sum_logits(Device& device, const float* logits, const TargetRows& rows, LogitSums* sums);
void softmax_gradient(Device& device, float* logits, const TargetRows& rows, const SoftmaxRows& softmax);
void distillation_backward(Device& device, const float* student, const DistillationRows& rows, const float* weights, float* dlogits,
                           double* losses);
void top_k_log_probs(Device& device, const float* logits, std::int64_t rows, std::int64_t vocabulary, const TopKRows& top);
void top_k_distillation_backward(Device& device, const float* student, const TopKDistillationRows& rows, const float* weights,
                                 float* dlogits, double* losses);
void adamw_update(Device& device, const AdamwStep& step, std::span<float> weight, std::span<const float> gradient,
                  std::span<float> m, std::span<float> v);
void adamw_update_8bit(Device& device, const AdamwStep& step, std::span<float> weight, std::span<const float> gradient,
                       const Adamw8BitState& state);
double sum_of_squares(Device& device, std::span<const float> x);

}  // namespace puna::cuda
