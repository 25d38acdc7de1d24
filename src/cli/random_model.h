// SPDX-License-Identifier: Apache-2.0
// Models of a known shape without a file: random weights for `puna bench --shape`, so that a speed can be measured, and none at all
// for `puna show --shape`, so that it is known what fits. Any type that `puna quantize` writes.
#pragma once

#include <memory>
#include <string_view>

#include "base/thread_pool.h"
#include "model/checkpoint.h"

namespace puna {

// `type`: an element format ("f16", "q8_0") or a mix ("q4_k_m"). Under a mix, the tensors that get another format than most hold 64
// random rows again and again. Throws kUsage naming the types.
std::shared_ptr<Checkpoint> random_model(const ModelConfig& config, std::string_view type, ThreadPool& pool);
// Formats, shapes and weight_bytes only: no weight has bytes.
std::shared_ptr<Checkpoint> outline_model(const ModelConfig& config, std::string_view type);

// Throws kUsage naming all shapes.
ModelConfig shape_of_flag(std::string_view name);

}  // namespace puna
