// SPDX-License-Identifier: Apache-2.0
#include "train/objectives/trained_rows.h"

#include "base/error.h"

namespace puna {

void TrainedRows::collect(const PackedBatch& batch, double total) {
  if (!(total > 0)) {
    fail(ErrorKind::kBadInput, "training",
         "a step without a token to train on: every row is masked; look at the data with puna train --inspect");
  }
  rows.clear();
  targets.clear();
  weights.clear();
  for (std::size_t t = 0; t < batch.tokens.size(); ++t) {
    if (batch.weights[t] == 0) continue;
    rows.push_back(static_cast<std::int32_t>(t));
    targets.push_back(id(batch.targets[t]));
    weights.push_back(static_cast<float>(batch.weights[t] / total));
  }
  log_probs.resize(rows.size());
}

}  // namespace puna
