// SPDX-License-Identifier: Apache-2.0
// The rows of a batch that are trained on, side by side as the output head takes them. Memory is used again from batch to batch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "train/batch.h"
#include "train/output_head.h"

namespace puna {

struct TrainedRows {
  std::vector<std::int32_t> rows, targets;  // [N]
  std::vector<float> weights;               // [N]
  std::vector<double> log_probs;            // [N]

  // Rows whose weight is not 0; weights are divided by `total`, the step's trained tokens. Throws kBadInput for a total of 0.
  void collect(const PackedBatch& batch, double total);
  TargetedRows over(std::span<const float> hidden) const { return {hidden, rows, targets}; }
};

}  // namespace puna
