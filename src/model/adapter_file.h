// SPDX-License-Identifier: Apache-2.0
// Adapters on disk, as PEFT writes them: a folder with adapter_model.safetensors and adapter_config.json. A reward's head goes with
// them, named as PEFT names a module to save.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "model/checkpoint.h"
#include "model/ranked_parameters.h"

namespace puna {

// Adapters only. `base` is what adapter_config.json calls the model below them. Rows of query and key adapters are written in
// Hugging Face's rotary order.
void write_adapter(const std::filesystem::path& folder, const RankedParameters& parameters, const LoraChoice& choice,
                   const std::string& base);

struct AdapterFile {
  struct Matrix {
    WeightSlot slot;
    Tensor a, b;   // [r, K], [N, r]; rows of query and key in Hugging Face's rotary order
    double scale;  // alpha / r
  };
  std::string base;
  std::filesystem::path file;  // of weights
  std::vector<Matrix> matrices;
  Tensor reward_head;  // [1, D] of a reward model, or none
  std::vector<std::shared_ptr<void>> owners;
};
// Throws kNotFound, kBadInput for files that do not belong together, kUnsupported for what is more than LoRA (DoRA, biases, a
// changed base, …).
AdapterFile read_adapter(const std::filesystem::path& folder);

// The row of a matrix in a file that is row `row` in the checkpoint: query and key may lie in another rotary order.
std::int64_t file_row(WeightRole role, const ModelConfig& config, std::int64_t row);
// Throws kBadInput where the shapes are not the base's, kUnsupported for a head that gives no single score of its states.
void check_adapter(const AdapterFile& adapter, const Checkpoint& base);
// In memory, to be chosen for a request. Throws as check_adapter(), kUnsupported for a reward model's.
std::shared_ptr<const AdapterSet> load_adapters(const AdapterFile& adapter, const Checkpoint& base, const std::string& name);

}  // namespace puna
