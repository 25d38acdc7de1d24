// SPDX-License-Identifier: Apache-2.0
// What a run's model is on disk: a Hugging Face folder that loads anywhere. A reward's head goes with it, named as those programs
// name it. Adapters alone: model/adapter_file.h.
#pragma once

#include <filesystem>

#include "base/thread_pool.h"
#include "model/checkpoint.h"
#include "model/ranked_parameters.h"

namespace puna {

// All weights of the network. `start` gives what the parameters lack: tokenizer, chat template, name.
void write_trained_model(const std::filesystem::path& folder, ThreadPool& pool, const RankedParameters& parameters,
                         const Checkpoint& start);

}  // namespace puna
