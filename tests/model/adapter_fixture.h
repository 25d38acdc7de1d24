// SPDX-License-Identifier: Apache-2.0
// Random adapters in memory, and the checkpoint that they are once they have been folded into its weights, by the equation alone.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "model/checkpoint.h"

namespace puna {

// All seven matrices of every layer, or only those of `roles`.
inline std::shared_ptr<const AdapterSet> random_adapters(const ModelConfig& config, std::int64_t rank, std::uint64_t seed,
                                                         std::vector<WeightRole> roles = {kAdaptedRoles.begin(),
                                                                                          kAdaptedRoles.end()}) {
  const auto set = std::make_shared<AdapterSet>();
  const auto values = std::make_shared<std::vector<std::vector<float>>>();
  set->name = "adapter " + std::to_string(seed);
  set->rank = rank;
  set->layers.resize(static_cast<std::size_t>(config.layers));
  const auto matrix = [&](std::int64_t rows, std::int64_t columns, double spread) {
    std::vector<float>& numbers = values->emplace_back(static_cast<std::size_t>(rows * columns));
    for (std::size_t i = 0; i < numbers.size(); ++i)
      numbers[i] = static_cast<float>(spread * random_normal(seed, values->size(), i));
    set->bytes += rows * columns * 4;
    return Tensor{
        .name = "", .format = Format::kF32, .shape = {rows, columns}, .bytes = std::as_bytes(std::span(numbers)), .row_scales = {}};
  };
  for (LayerAdapters& layer : set->layers) {
    for (const WeightRole role : roles) {
      const Shape shape = weight_shape(config, role);
      const double spread = 0.7 / std::sqrt(static_cast<double>(shape[1]) * static_cast<double>(rank));
      layer.at(role) = {.a = matrix(rank, shape[1], 1), .b = matrix(shape[0], rank, spread), .scale = 0.5F};
    }
  }
  set->owner = values;
  return set;
}

// W + scale B A in F64, kept in F32.
inline std::shared_ptr<Checkpoint> with_adapters_folded_in(const Checkpoint& base, const AdapterSet& set) {
  auto merged = std::make_shared<Checkpoint>(base);
  for (std::size_t l = 0; l < set.layers.size(); ++l) {
    for (const WeightRole role : kAdaptedRoles) {
      const LowRank& adapter = set.layers[l].at(role);
      if (!adapter) continue;
      Tensor& weight = merged->weights.at(role, static_cast<std::int64_t>(l));
      const std::int64_t outputs = weight.shape[0], inputs = weight.shape[1];
      const auto* const a = reinterpret_cast<const float*>(adapter.a.bytes.data());
      const auto* const b = reinterpret_cast<const float*>(adapter.b.bytes.data());
      const auto values = std::make_shared<std::vector<float>>(static_cast<std::size_t>(weight.shape.count()));
      for (std::int64_t n = 0; n < outputs; ++n) {
        float* const row = values->data() + n * inputs;
        decode_row(weight, n, row);
        for (std::int64_t k = 0; k < inputs; ++k) {
          double sum = 0;
          for (std::int64_t r = 0; r < adapter.rank(); ++r)
            sum += static_cast<double>(b[n * adapter.rank() + r]) * static_cast<double>(a[r * inputs + k]);
          row[k] = static_cast<float>(static_cast<double>(row[k]) + static_cast<double>(adapter.scale) * sum);
        }
      }
      weight.format = Format::kF32;
      weight.bytes = std::as_bytes(std::span(*values));
      weight.row_scales = {};
      merged->owners.push_back(values);
    }
  }
  return merged;
}

}  // namespace puna
