// SPDX-License-Identifier: Apache-2.0
#include "model/stages.h"

#include <algorithm>
#include <limits>

#include "base/as_size.h"
#include "base/error.h"

namespace puna {
namespace {

// [L + 1] bytes of the layers below l, and of what lies before and behind them.
std::vector<double> bytes_below(const Checkpoint& checkpoint) {
  std::vector<double> below{0};
  double layer_bytes = static_cast<double>(stored_bytes(checkpoint.weights.token_embedding));
  for (std::int64_t layer = 0; layer < checkpoint.config.layers; ++layer) {
    for (const WeightRoleInfo& row : weight_roles()) {
      if (row.per_layer) layer_bytes += static_cast<double>(stored_bytes(checkpoint.weights.at(row.role, layer)));
    }
    below.push_back(below.back() + layer_bytes);
    layer_bytes = 0;
  }
  below.back() += static_cast<double>(stored_bytes(checkpoint.weights.output_norm) + stored_bytes(checkpoint.weights.output));
  return below;
}

Tensor without_rows(const Tensor& whole) {
  Tensor none = whole;
  none.shape = whole.shape.rank() == 1 ? Shape{0} : Shape{0, whole.shape[1]};
  none.bytes = none.row_scales = {};
  return none;
}

std::int64_t bytes_of_weights(const Checkpoint& checkpoint) {
  std::int64_t bytes = 0;
  for (const WeightRoleInfo& row : weight_roles()) {
    for (std::int64_t layer = 0; layer < (row.per_layer ? checkpoint.config.layers : 1); ++layer)
      bytes += stored_bytes(checkpoint.weights.at(row.role, layer));
  }
  return bytes;
}

}  // namespace

std::vector<std::int64_t> stage_bounds(const Checkpoint& checkpoint, int stages) {
  const std::int64_t layers = checkpoint.config.layers;
  PUNA_CHECK(stages >= 1 && stages <= layers, checkpoint.where, "{} stages of {} layers", stages, layers);
  const std::vector<double> below = bytes_below(checkpoint);
  constexpr double kImpossible = std::numeric_limits<double>::infinity();
  // The least sum for layers [0, l) in s stages, and where the last of them begins.
  std::vector<double> least(below.size(), kImpossible);
  std::vector<std::vector<std::int64_t>> begins;
  least[0] = 0;
  for (int stage = 0; stage < stages; ++stage) {
    std::vector<double> next(below.size(), kImpossible);
    std::vector<std::int64_t>& begin = begins.emplace_back(below.size());
    for (std::size_t end = 1; end < below.size(); ++end) {
      for (std::size_t from = 0; from < end; ++from) {
        const double bytes = below[end] - below[from], sum = least[from] + bytes * bytes;
        if (sum >= next[end]) continue;
        next[end] = sum;
        begin[end] = static_cast<std::int64_t>(from);
      }
    }
    least = next;
  }
  std::vector<std::int64_t> bounds{layers};
  while (!begins.empty()) {
    bounds.push_back(begins.back()[as_size(bounds.back())]);
    begins.pop_back();
  }
  std::ranges::reverse(bounds);
  return bounds;
}

std::vector<std::shared_ptr<const Checkpoint>> stages_of(const Checkpoint& checkpoint, int stages) {
  if (stages == 1) return {std::make_shared<Checkpoint>(checkpoint)};
  const std::vector<std::int64_t> bounds = stage_bounds(checkpoint, stages);
  std::vector<std::shared_ptr<const Checkpoint>> parts;
  for (int stage = 0; stage < stages; ++stage) {
    const std::int64_t first = bounds[as_size(stage)], last = bounds[as_size(stage) + 1];
    const auto part = std::make_shared<Checkpoint>(checkpoint);
    const auto layers = checkpoint.weights.layers.begin();
    part->weights.layers.assign(layers + first, layers + last);
    part->config.layers = last - first;
    if (!checkpoint.adapters.empty())
      part->adapters.assign(checkpoint.adapters.begin() + first, checkpoint.adapters.begin() + last);
    part->config.tied_embeddings = false;
    if (stage > 0) part->weights.token_embedding = without_rows(checkpoint.weights.token_embedding);
    if (stage + 1 < stages) {
      part->weights.output_norm = without_rows(checkpoint.weights.output_norm);
      part->weights.output = without_rows(checkpoint.weights.output);
    }
    part->weight_bytes = bytes_of_weights(*part);
    parts.push_back(part);
  }
  return parts;
}

std::vector<std::shared_ptr<const AdapterSet>> stages_of(const std::shared_ptr<const AdapterSet>& adapters,
                                                         std::span<const std::shared_ptr<const Checkpoint>> stages) {
  if (stages.size() == 1) return {adapters};
  std::vector<std::shared_ptr<const AdapterSet>> parts;
  auto first = adapters->layers.begin();
  for (const auto& stage : stages) {
    const auto part = std::make_shared<AdapterSet>(*adapters);
    part->layers.assign(first, first + stage->config.layers);
    part->owner = std::const_pointer_cast<AdapterSet>(adapters);
    first += stage->config.layers;
    parts.push_back(part);
  }
  return parts;
}

std::int64_t most_layers(const Checkpoint& checkpoint, int stages) {
  const std::vector<std::int64_t> bounds = stage_bounds(checkpoint, stages);
  std::int64_t most = 0;
  for (std::size_t stage = 0; stage + 1 < bounds.size(); ++stage) most = std::max(most, bounds[stage + 1] - bounds[stage]);
  return most;
}

}  // namespace puna
