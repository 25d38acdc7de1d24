// SPDX-License-Identifier: Apache-2.0
// The operations of one kind of device, row by row, under the op headers: there is the formula, here who computes it. Pointers into
// rows of numbers are the device's memory, spans of structs and of segments are the host's, and so are results that a header says
// to be. nullptr: no kernel on this device, and the op's front says so. A table is filled by designated initialisers in
// kernels/cpu/ and kernels/cuda/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/adamw.h"
#include "kernels/attention.h"
#include "kernels/cross_entropy.h"
#include "kernels/device.h"
#include "kernels/kv_pages.h"
#include "kernels/matmul.h"
#include "kernels/packed_attention.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/rows.h"
#include "kernels/shortlist.h"
#include "kernels/swiglu.h"
#include "kernels/top_k.h"

namespace puna {

struct KernelTable {
  // kernels/matmul.h
  void (*matmul_forward)(Device&, Activations&, std::span<const Product>) = nullptr;
  void (*gated_matmul_forward)(Device&, Activations&, const GatedProduct&) = nullptr;
  void (*matmul_backward_input)(Device&, std::span<const OutputGradient>, std::int64_t rows, float* dx, Gradient) = nullptr;
  void (*matmul_backward_weight)(Device&, const WeightGradient&, std::int64_t rows, Gradient) = nullptr;
  void (*matmul_backward)(Device&, std::span<const ProductGradient>, const float* x, std::int64_t rows,
                          float* dx) = nullptr;  // nullptr: one after the other

  // kernels/rms_norm.h, kernels/swiglu.h, kernels/rope.h, kernels/rows.h
  void (*rms_norm_forward)(Device&, const float* x, const float* weight, float eps, std::int64_t rows, std::int64_t width,
                           float* y) = nullptr;
  void (*rms_norm_backward)(Device&, const RmsNormGradient&, std::int64_t rows, std::int64_t width) = nullptr;
  void (*add_forward)(Device&, float* x, const float* delta, std::int64_t rows, std::int64_t width) = nullptr;
  void (*swiglu_forward)(Device&, const float* gate, const float* up, std::int64_t rows, std::int64_t width, float* out) = nullptr;
  void (*swiglu_backward)(Device&, const SwigluGradient&, std::int64_t rows, std::int64_t width) = nullptr;
  void (*rope_table)(Device&, std::span<const double> frequencies, std::span<const std::int32_t> positions, float* table) = nullptr;
  void (*rope_forward)(Device&, const RopeRows&, const float* table, RopePairing) = nullptr;
  void (*rope_backward)(Device&, const RopeRows&, const float* table, RopePairing) = nullptr;
  void (*embed_forward)(Device&, const Tensor& embedding, std::span<const std::int32_t> tokens, float* x) = nullptr;
  void (*embed_backward)(Device&, std::span<const std::int32_t> tokens, const float* dx, std::int64_t width,
                         float* dembedding) = nullptr;
  void (*gather_rows)(Device&, const float* x, std::span<const std::int32_t> rows, std::int64_t width, float* y) = nullptr;
  void (*scatter_add_rows)(Device&, const float* y, std::span<const std::int32_t> rows, std::int64_t width, float* x) = nullptr;
  void (*add_strided)(Device&, float* y, std::int64_t stride, const float* delta, std::int64_t rows, std::int64_t width) = nullptr;
  void (*scale_values)(Device&, float* x, std::int64_t count, float scale) = nullptr;
  void (*arg_max_rows)(Device&, const float* x, std::int64_t rows, std::int64_t width, const ArgMax& largest) = nullptr;
  void (*round_values)(Device&, std::span<const float> values, Format format, std::byte* rounded) = nullptr;

  // kernels/shortlist.h
  void (*shortlist_rows)(Device&, const LogitColumns&, const RowDraw* draws, Shortlist* found) = nullptr;

  // kernels/kv_pages.h, kernels/attention.h, kernels/packed_attention.h
  void (*kv_store)(Device&, const KvLayer&, const KvBatch&, const KvRows&) = nullptr;
  void (*rope_and_store)(Device&, const KvLayer&, const KvBatch&, const RopeStore&) = nullptr;
  void (*attention_forward)(Device&, const KvLayer&, const KvBatch&, const AttentionQuery&) = nullptr;
  void (*rope_store_and_attend)(Device&, const KvLayer&, const KvBatch&, const RopeStore&,
                                float* out) = nullptr;  // nullptr: one after the other
  void (*packed_attention_forward)(Device&, const PackedRows&, std::span<const PackedSegment>, float* out,
                                   float* log_sum_exp) = nullptr;
  void (*packed_attention_backward)(Device&, const PackedRows&, std::span<const PackedSegment>,
                                    const PackedAttentionGradient&) = nullptr;

  // kernels/cross_entropy.h, kernels/top_k.h, kernels/adamw.h
  void (*target_log_probs)(Device&, const float* logits, const TargetRows&, double* log_probs) = nullptr;
  void (*cross_entropy_backward)(Device&, float* logits, const TargetRows&, const float* weights, double* log_probs) = nullptr;
  void (*sum_logits)(Device&, const float* logits, const TargetRows&, LogitSums* sums) = nullptr;
  void (*softmax_gradient)(Device&, float* logits, const TargetRows&, const SoftmaxRows&) = nullptr;
  void (*distillation_backward)(Device&, const float* student, const DistillationRows&, const float* weights, float* dlogits,
                                double* losses) = nullptr;
  void (*top_k_log_probs)(Device&, const float* logits, std::int64_t rows, std::int64_t vocabulary, const TopKRows&) = nullptr;
  void (*top_k_distillation_backward)(Device&, const float* student, const TopKDistillationRows&, const float* weights,
                                      float* dlogits, double* losses) = nullptr;
  void (*adamw_update)(Device&, const AdamwStep&, std::span<float> weight, std::span<const float> gradient, std::span<float> m,
                       std::span<float> v) = nullptr;
  void (*adamw_update_8bit)(Device&, const AdamwStep&, std::span<float> weight, std::span<const float> gradient,
                            const Adamw8BitState&) = nullptr;
  double (*sum_of_squares)(Device&, std::span<const float> x) = nullptr;
};

// The processor's.
const KernelTable& cpu_kernels();

}  // namespace puna
