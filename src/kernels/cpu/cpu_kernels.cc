// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cpu_kernels.h"

namespace puna {

const KernelTable& cpu_kernels() {
  static constexpr KernelTable kTable{
      .matmul_forward = cpu::matmul_forward,
      .gated_matmul_forward = cpu::gated_matmul_forward,
      .matmul_backward_input = cpu::matmul_backward_input,
      .matmul_backward_weight = cpu::matmul_backward_weight,
      .rms_norm_forward = cpu::rms_norm_forward,
      .rms_norm_backward = cpu::rms_norm_backward,
      .add_forward = cpu::add_forward,
      .swiglu_forward = cpu::swiglu_forward,
      .swiglu_backward = cpu::swiglu_backward,
      .rope_table = cpu::rope_table,
      .rope_forward = cpu::rope_forward,
      .rope_backward = cpu::rope_backward,
      .embed_forward = cpu::embed_forward,
      .embed_backward = cpu::embed_backward,
      .gather_rows = cpu::gather_rows,
      .scatter_add_rows = cpu::scatter_add_rows,
      .add_strided = cpu::add_strided,
      .scale_values = cpu::scale_values,
      .arg_max_rows = cpu::arg_max_rows,
      .round_values = cpu::round_values,
      .shortlist_rows = cpu::shortlist_rows,
      .kv_store = cpu::kv_store,
      .rope_and_store = cpu::rope_and_store,
      .attention_forward = cpu::attention_forward,
      .packed_attention_forward = cpu::packed_attention_forward,
      .packed_attention_backward = cpu::packed_attention_backward,
      .target_log_probs = cpu::target_log_probs,
      .cross_entropy_backward = cpu::cross_entropy_backward,
      .sum_logits = cpu::sum_logits,
      .softmax_gradient = cpu::softmax_gradient,
      .distillation_backward = cpu::distillation_backward,
      .top_k_log_probs = cpu::top_k_log_probs,
      .top_k_distillation_backward = cpu::top_k_distillation_backward,
      .adamw_update = cpu::adamw_update,
      .adamw_update_8bit = cpu::adamw_update_8bit,
      .sum_of_squares = cpu::sum_of_squares,
  };
  return kTable;
}

}  // namespace puna
