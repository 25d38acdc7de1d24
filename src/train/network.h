// SPDX-License-Identifier: Apache-2.0
// A model as a run computes it: what of it is trained, its passes over packed batches, and its output. Students are trained,
// teachers and references only read.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "model/gradient_pass.h"
#include "model/parameters.h"
#include "train/batch.h"
#include "train/output_head.h"

namespace puna {

// For teachers and references.
TrainChoice read_only();

struct Network {
  Network(std::shared_ptr<const Checkpoint> checkpoint, const TrainChoice& choice, Device device, std::int64_t max_rows, Keep keep);

  // -> hidden [T, D]
  std::span<const float> forward(const PackedBatch& batch, bool with_adapters = true);
  // Rotary frequencies are read when a pass is made: call after the config has changed.
  void replan(Device device, std::int64_t max_rows, Keep keep);

  Parameters parameters;
  std::unique_ptr<GradientPass> pass;
  OutputHead head;
};

}  // namespace puna
