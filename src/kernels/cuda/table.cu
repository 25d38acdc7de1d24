// SPDX-License-Identifier: Apache-2.0
// The door of the library: puna_gpu_library(), and the GPU's row of kernels (kernels/kernel_table.h).
#include "kernels/cuda/context.h"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/library.h"
#include "kernels/cuda/load_weight.h"
#include "kernels/kernel_table.h"

namespace puna::cuda {
namespace {

constexpr KernelTable kKernels{
    .matmul_forward = matmul_forward,
    .gated_matmul_forward = gated_matmul_forward,
    .matmul_backward_input = matmul_backward_input,
    .matmul_backward_weight = matmul_backward_weight,
    .matmul_backward = matmul_backward,
    .rms_norm_forward = rms_norm_forward,
    .rms_norm_backward = rms_norm_backward,
    .add_forward = add_forward,
    .swiglu_forward = swiglu_forward,
    .swiglu_backward = swiglu_backward,
    .rope_table = rope_table,
    .rope_forward = rope_forward,
    .rope_backward = rope_backward,
    .embed_forward = embed_forward,
    .embed_backward = embed_backward,
    .gather_rows = gather_rows,
    .scatter_add_rows = scatter_add_rows,
    .add_strided = add_strided,
    .scale_values = scale_values,
    .arg_max_rows = arg_max_rows,
    .round_values = round_values,
    .shortlist_rows = shortlist_rows,
    .kv_store = kv_store,
    .rope_and_store = rope_and_store,
    .attention_forward = attention_forward,
    .rope_store_and_attend = rope_store_and_attend,
    .packed_attention_forward = packed_attention_forward,
    .packed_attention_backward = packed_attention_backward,
    .target_log_probs = target_log_probs,
    .cross_entropy_backward = cross_entropy_backward,
    .sum_logits = sum_logits,
    .softmax_gradient = softmax_gradient,
    .distillation_backward = distillation_backward,
    .top_k_log_probs = top_k_log_probs,
    .top_k_distillation_backward = top_k_distillation_backward,
    .adamw_update = adamw_update,
    .adamw_update_8bit = adamw_update_8bit,
    .sum_of_squares = sum_of_squares,
};

constexpr GpuLibrary kLibrary{
    .version = kGpuLibraryVersion,
    .kernels = &kKernels,
    .count = count_gpus,
    .describe = describe_gpu,
    .open = open_gpu,
    .close = close_gpu,
    .allocate = allocate,
    .release = release,
    .allocate_pinned = allocate_pinned,
    .release_pinned = release_pinned,
    .copy_in = copy_in,
    .copy_out = copy_out,
    .copy_within = copy_within,
    .copy_between = copy_between,
    .zero = zero,
    .wait = wait,
    .weight_bytes = weight_bytes,
    .load_weight = load_weight,
    .replay = replay,
    .begin_record = begin_record,
    .end_record = end_record,
    .drop_record = drop_record,
    .forget_records = forget_records,
    .join = join,
    .sum_over_ranks = sum_over_ranks,
    .leave = leave,
    .set_gradient_format = set_gradient_format,
};

}  // namespace
}  // namespace puna::cuda

extern "C" __attribute__((visibility("default"))) const puna::GpuLibrary* puna_gpu_library() { return &puna::cuda::kLibrary; }
