// SPDX-License-Identifier: Apache-2.0
#include "train/network.h"

#include <utility>

namespace puna {

TrainChoice read_only() {
  TrainChoice choice;
  choice.trained = Trained::kNothing;
  return choice;
}

Network::Network(std::shared_ptr<const Checkpoint> checkpoint, const TrainChoice& choice, Device device, std::int64_t max_rows,
                 Keep keep)
    : parameters(std::move(checkpoint), choice, device),
      pass(std::make_unique<GradientPass>(parameters, device, max_rows, keep)),
      head(parameters, device, max_rows) {}

std::span<const float> Network::forward(const PackedBatch& batch, bool with_adapters) {
  return pass->forward(
      {.tokens = batch.tokens, .positions = batch.positions, .segments = batch.segments, .with_adapters = with_adapters});
}

void Network::replan(Device device, std::int64_t max_rows, Keep keep) {
  pass.reset();  // its memory goes before the new one's comes
  pass = std::make_unique<GradientPass>(parameters, device, max_rows, keep);
}

}  // namespace puna
