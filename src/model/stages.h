// SPDX-License-Identifier: Apache-2.0
// A network's layers divided among S stages, each on devices of its own (pipeline parallelism: Huang et al., "GPipe", 2019). Stage
// s has
//   layers [a_s, a_{s + 1}), a_0 = 0, a_S = L, at least one: their weights, adapters, keys and values
// and before them the first stage has the embedding, behind them the last one the output norm and the output matrix. What one stage
// gives the next is the residual stream x [T, D] (kernels/stage_link.h), and no sum is made in another order: logits have the bits
// of one device's. A stage may be split over ranks in turn (model/rank_share.h).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "model/checkpoint.h"

namespace puna {

// [S + 1] a_s, where the sum of the squares of the stages' bytes is least: they hold as equal parts of the weights, the embedding
// and the output matrix among them, as whole layers allow. 1 <= stages <= L. Formats and shapes are read, no bytes.
std::vector<std::int64_t> stage_bounds(const Checkpoint& checkpoint, int stages);

// Each stage as a checkpoint of its layers, which lie where they are. Weights that it lacks have no rows; of several stages tied
// embeddings are tied no longer.
std::vector<std::shared_ptr<const Checkpoint>> stages_of(const Checkpoint& checkpoint, int stages);

// [S] adapters that a request may choose, of each of these stages' layers; they lie where they are.
std::vector<std::shared_ptr<const AdapterSet>> stages_of(const std::shared_ptr<const AdapterSet>& adapters,
                                                         std::span<const std::shared_ptr<const Checkpoint>> stages);

// Of the stage that has most.
std::int64_t most_layers(const Checkpoint& checkpoint, int stages);

}  // namespace puna
