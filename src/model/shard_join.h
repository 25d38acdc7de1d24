// SPDX-License-Identifier: Apache-2.0
// One weight out of the pieces that Meta's model-parallel files hold: rows one after the other, columns side by side, or copies.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "model/weights.h"
#include "tensor/arena.h"

namespace puna {

struct JoinPlan {
  std::vector<Tensor> pieces;         // those that are used, in order
  std::vector<std::size_t> ranks;     // the rank of each
  ShardAxis axis = ShardAxis::kNone;  // how they are joined
  Shape shape;                        // of the whole
  Format format = Format::kF32;       // of the whole
  std::size_t bytes = 0, scale_bytes = 0;
};

// Checks that the pieces make up `shape`, and says what the whole needs. Throws kBadInput with the shapes where they do not.
// - The embedding is split by rows (Llama 3) or by columns (Llama 2): its pieces' shapes tell.
// - With more ranks than key/value heads each head is stored by several neighbouring ranks: the first of each group is taken.
// - FP8 matrices split by columns have scales per row and rank, which no single row scale can stand for: the whole is F32,
//   each value the exact product of code and scale, rounded once.
JoinPlan plan_join(std::vector<Tensor> pieces, const WeightRoleInfo& role, const Shape& shape, const std::string& where);

// Copies the pieces into the arena, which has room for padded(bytes) and padded(scale_bytes).
Tensor join(const JoinPlan& plan, Arena& arena);

}  // namespace puna
