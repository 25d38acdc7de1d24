// SPDX-License-Identifier: Apache-2.0
// What a run's model is on disk: a Hugging Face folder that loads anywhere, or, of adapters alone, a folder as PEFT writes it
// (adapter_model.safetensors and adapter_config.json). A reward's head goes with either, named as those programs name it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "model/checkpoint.h"
#include "model/parameters.h"

namespace puna {

// All weights of the network. `start` gives what the parameters lack: tokenizer, chat template, name.
void write_trained_model(const std::filesystem::path& folder, ThreadPool& pool, const Parameters& parameters,
                         const Checkpoint& start);

// Adapters only. `base` is what adapter_config.json calls the model below them. Rows of query and key adapters are written in
// Hugging Face's rotary order.
void write_adapter(const std::filesystem::path& folder, const Parameters& parameters, const LoraChoice& choice,
                   const std::string& base);

struct AdapterFile {
  struct Matrix {
    WeightSlot slot;
    Tensor a, b;   // [r, K], [N, r]; rows of query and key in Hugging Face's rotary order
    double scale;  // alpha / r
  };
  std::string base;
  std::vector<Matrix> matrices;
  Tensor reward_head;  // [1, D] of a reward model, or none
  std::vector<std::shared_ptr<void>> owners;
};
// Throws kNotFound, kBadInput for files that do not belong together, kUnsupported for what is more than LoRA (DoRA, biases, …).
AdapterFile read_adapter(const std::filesystem::path& folder);

}  // namespace puna
