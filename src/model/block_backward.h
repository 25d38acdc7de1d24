// SPDX-License-Identifier: Apache-2.0
// One Llama block seen from behind: the gradient of its input and of its weights from the gradient of its output. The pair of
// block_forward() with PackedKv. What is cheap to compute again (norms, the product of SwiGLU) is, instead of being kept.
// Ranks of a team have dx whole, with equal bits. The products of Wo and Wdown give each the gradient of its own columns of X; what
// the products of Wq, Wk, Wv and of Wgate, Wup give is a part of their input's, which is summed over the ranks: the mirror of the
// two sums of forward ("f" and "g" of Megatron-LM, Shoeybi et al., 2019, section 3). So the norms' gradients are equal on all
// ranks.
#pragma once

#include <array>
#include <span>

#include "kernels/packed_attention.h"
#include "model/adapters.h"
#include "model/block.h"

namespace puna {

struct LowRankGradient {
  float* a = nullptr;  // [r, K]
  float* b = nullptr;  // [N, r]
};

// Where the gradients of one layer are added; nullptr where a weight is frozen. Each has the shape of its weight.
struct LayerGradients {
  float* attention_norm = nullptr;
  float* feed_forward_norm = nullptr;
  std::array<float*, kAdaptedRoleCount> matrices{};           // in the order of kAdaptedRoles
  std::array<LowRankGradient, kAdaptedRoleCount> adapters{};  // the same
};

// Scratch of one backward, shared by all layers.
struct BlockBackwardBuffers {
  float* norm;           // [T, D] n or m again
  float* dnorm;          // [T, D]
  float* dattention;     // [T, H, E]
  float* dqkv;           // [T, (H + 2 G) E]
  float* feed_forward;   // [T, F] silu(gate) * up again, then dup
  float* dfeed_forward;  // [T, F] its gradient, then dgate
  float* dinner;         // [T, r], nullptr without adapters
};

// One layer's backward: what block_forward() left (x, qkv, attention, x_middle, gate, up, the adapters' inner products and
// kv.log_sum_exp), and where the results go.
struct BlockBackward {
  const BlockBuffers& kept;
  const BlockBackwardBuffers& scratch;
  const LayerGradients& gradients;  // added to
  float* dx;                        // [T, D] the gradient of x_out, becomes that of x
};
void block_backward(const BlockRun& run, const BlockWeights& weights, const BlockBatch& batch, const PackedKv& kv,
                    const BlockBackward& backward);

}  // namespace puna
