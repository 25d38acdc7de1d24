// SPDX-License-Identifier: Apache-2.0
#include "infer/reward_model.h"

#include <functional>
#include <numeric>
#include <vector>

#include "base/error.h"

namespace puna {

double reward(Engine& engine, std::span<const Token> conversation) {
  const Tensor& head = engine.checkpoint().reward_head;
  if (!head) {
    fail(ErrorKind::kUnsupported, engine.checkpoint().where,
         "is no reward model: it has no {}; train one with objective: reward, or take a LlamaForSequenceClassification",
         kRewardHead);
  }
  KvCache& cache = engine.cache();
  const int sequence = cache.add_sequence();
  try {
    engine.append(sequence, conversation);
  } catch (...) {
    cache.remove_sequence(sequence);
    throw;
  }
  cache.remove_sequence(sequence);
  std::vector<float> weights(static_cast<std::size_t>(head.shape.count()));  // [D]
  decode_row(head, 0, weights.data());
  const std::span<const float> state = engine.model().states();
  return std::inner_product(weights.begin(), weights.end(), state.begin(), 0.0, std::plus<>(),
                            [](float w, float h) { return static_cast<double>(w) * static_cast<double>(h); });
}

}  // namespace puna
