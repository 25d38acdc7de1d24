// SPDX-License-Identifier: Apache-2.0
// Models of random weights for `puna bench --shape`: any type that `puna quantize` writes, so that a speed can be measured without
// the weights.
#pragma once

#include <memory>
#include <string_view>

#include "base/thread_pool.h"
#include "model/checkpoint.h"

namespace puna {

// `type`: an element format ("f16", "q8_0") or a mix ("q4_k_m"). Under a mix, the tensors that get another format than most hold 64
// random rows again and again. Throws kUsage naming the types.
std::shared_ptr<Checkpoint> random_model(const ModelConfig& config, std::string_view type, ThreadPool& pool);

}  // namespace puna
