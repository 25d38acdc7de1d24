// SPDX-License-Identifier: Apache-2.0
// What a choice trains of a network, listed once: counting bytes, taking memory, putting tensors in place, filling them and writing
// them down all walk this list. On the ranks of a team each lists its part (model/rank_share.h):
//   matrices of a block, with their adapters' B or A beside the axis that is split, and rows of the output matrix: as in inference
//   the embedding: rows of the vocabulary, as its values, gradients and moments would be the largest part of what a rank holds,
//     and where embeddings are tied it is the output matrix. A frozen one every rank has whole.
//   norms, the other half of each adapter, an objective's own: whole on every rank
// Gradients of what is whole are equal on all ranks, bit for bit, where what they are made of is: norms, rewards. Those of whole
// adapters' matrices are partial: A sees the share of du that comes of the rank's rows of B, B the share of u that comes of its
// columns of A. Their sum over ranks is the gradient.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/rank_share.h"
#include "model/train_choice.h"
#include "model/weights.h"

namespace puna {

struct ParameterEntry {
  enum class Kind { kWeight, kAdapterA, kAdapterB, kExtra };
  Kind kind;
  std::string name;
  Shape shape;  // of the rank's part
  bool decays;
  WeightRole role = WeightRole::kTokenEmbedding;  // of weights and adapters
  std::int64_t layer = 0;
  float scale = 0;                    // alpha / r of adapters
  double spread = 0;                  // of extra parameters
  Shape whole = {};                   // of one device
  ShardAxis axis = ShardAxis::kNone;  // along which ranks have parts
  std::int64_t first = 0;             // row or column of the whole with which the part begins
  bool partial = false;               // the gradient is the sum over the ranks'

  bool rounds(const TrainChoice& choice) const {  // products read a rounded copy
    return kind == Kind::kWeight && decays && choice.compute != Format::kF32;
  }
};

std::vector<ParameterEntry> parameter_entries(const ModelConfig& whole, const TrainChoice& choice, const Share& share);

// Throws kUsage for a choice that this network cannot be trained by.
void check_choice(const ModelConfig& whole, const TrainChoice& choice);

// visit(role, layer) of all weights of a network; tied embeddings are one matrix.
template <typename Visit>
void each_weight(const ModelConfig& config, Visit&& visit) {
  for (const WeightRoleInfo& row : weight_roles()) {
    if (row.role == WeightRole::kOutput && config.tied_embeddings) continue;
    for (std::int64_t layer = 0; layer < (row.per_layer ? config.layers : 1); ++layer) visit(row.role, layer);
  }
}

}  // namespace puna
