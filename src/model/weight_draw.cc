// SPDX-License-Identifier: Apache-2.0
// A value that is drawn again takes the next stream of its tensor, at its own index.
#include "model/weight_draw.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "base/random.h"

namespace puna {
namespace {

constexpr double kSpread = 0.02;
constexpr double kCut = 2;
constexpr double kOutputCut = 3;  // of its deviations

}  // namespace

template <typename Value>
void WeightDraw::fill(std::span<float> values, Value&& value) const {
  device.pool.split(static_cast<std::int64_t>(values.size()), 1024, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      values[static_cast<std::size_t>(i)] = static_cast<float>(value(first + static_cast<std::uint64_t>(i)));
    }
  });
}

void WeightDraw::uniform(double bound, std::span<float> values) const {
  fill(values, [&](std::uint64_t index) { return bound * (2 * random_uniform(seed, tensor, index) - 1); });
}

void WeightDraw::normal(const Normal& normal, std::span<float> values) const {
  fill(values, [&](std::uint64_t index) {
    for (std::uint64_t attempt = 0;; ++attempt) {
      const double value = normal.spread * random_normal(seed, tensor + (attempt << 32), index);
      if (std::fabs(value) <= normal.cut) return value;
    }
  });
}

void WeightDraw::weight(const ModelConfig& config, WeightRole role, std::int64_t layer, std::span<float> values) const {
  const double output = 1 / std::sqrt(static_cast<double>(config.width));
  switch (role) {
    case WeightRole::kAttentionNorm:
    case WeightRole::kFeedForwardNorm:
    case WeightRole::kOutputNorm:
      std::ranges::fill(values, 1.0f);
      break;
    case WeightRole::kTokenEmbedding:
      normal(config.tied_embeddings ? Normal{output, kOutputCut * output} : Normal{.spread = 1}, values);
      break;
    case WeightRole::kOutput:
      normal({output, kOutputCut * output}, values);
      break;
    case WeightRole::kAttentionOutput:
    case WeightRole::kUp:
    case WeightRole::kDown:
      normal({kSpread / std::sqrt(2 * static_cast<double>(layer + 1)), kCut}, values);
      break;
    default:
      normal({kSpread, kCut}, values);
  }
}

}  // namespace puna
