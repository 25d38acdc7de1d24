// SPDX-License-Identifier: Apache-2.0
// What is trained: F32 values and gradients, each in one arena of the device, over a checkpoint whose other weights stay as they
// lie in the file; where all of them are frozen, a GPU has them too (model/gpu_checkpoint.h), else none. Names are Hugging Face's
// and PEFT's. Tied embeddings are one parameter. Values that decay lie side by side in the arena, so the optimizer's work over all
// of them is one call. Row order of queries and keys is the checkpoint's own (config.rope_pairing).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/device.h"
#include "model/adapters.h"
#include "model/block_backward.h"
#include "model/checkpoint.h"
#include "tensor/arena.h"
#include "tensor/format.h"
#include "tensor/tensor.h"

namespace puna {

struct Parameter {
  std::string name;  // "model.layers.0.self_attn.q_proj.weight", "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
  Shape shape;
  std::span<float> value, gradient;  // the device's memory
  bool decays;                       // weight decay is for matrices, not for norms
};

enum class Trained { kNothing, kWeights, kAdapters };

struct LoraChoice {
  std::int64_t rank = 16;  // r
  double alpha = 16;
  std::vector<WeightRole> roles{kAdaptedRoles.begin(), kAdaptedRoles.end()};
};

// A parameter that an objective brings: a reward head. Drawn from normal(0, spread).
struct ExtraParameter {
  std::string name;
  Shape shape;
  double spread;
  bool decays;
};

struct TrainChoice {
  Trained trained = Trained::kWeights;
  LoraChoice lora = {};           // read with kAdapters
  Format compute = Format::kF32;  // kBF16: products read rounded copies of trained matrices; values stay F32
  bool new_weights = false;       // a new network drawn from `seed`; the checkpoint needs a config only
  std::uint64_t seed = 1;         // of adapters, extra parameters and new weights
  std::vector<ExtraParameter> extra = {};
};

// Gradients by their part in the network; nullptr where a weight is frozen.
struct ModelGradients {
  float* token_embedding = nullptr;    // [V, D]
  std::vector<LayerGradients> layers;  // [L]
  float* output_norm = nullptr;        // [D]
  float* output = nullptr;             // [V, D]; the token embedding's where they are tied

  float*& at(WeightRole role, std::int64_t layer = 0);
};

class Parameters {
 public:
  // New weights are drawn as torchtitan does for Llama 3: embeddings normal(0, 1); matrices normal(0, 0.02) cut off at ±2;
  // attention_output, up and down of layer l with 0.02 / sqrt(2 (l + 1)); output D^-0.5 cut off at ±3 of its deviations; norms 1.
  // Where embeddings are tied the one matrix is drawn as the output. Adapters: A uniform in ±1 / sqrt(K), which is He's
  // initialisation with a = sqrt(5), and B zero. Throws kUsage for a rank or alpha no adapter can have, kNoRoom.
  Parameters(std::shared_ptr<const Checkpoint> checkpoint, const TrainChoice& choice, Device device);
  Parameters(const Parameters&) = delete;
  Parameters& operator=(const Parameters&) = delete;

  const ModelConfig& config() const { return checkpoint_->config; }
  const Checkpoint& checkpoint() const { return *checkpoint_; }
  // Where the device reads them: the checkpoint's, trained ones replaced by what is trained (F32, or its copy in BF16).
  const ModelWeights& weights() const { return weights_; }
  std::span<const LayerAdapters> adapters() const { return adapters_; }  // [L], or none
  const ModelGradients& gradients() const { return gradients_; }

  std::span<Parameter> all() { return parameters_; }
  std::span<const Parameter> all() const { return parameters_; }
  // Throws kInternal for a name that is not there.
  Parameter& find(std::string_view name);
  std::int64_t count() const;  // of trained values

  // The whole arena: all gradients with the zeros between them.
  std::span<float> gradient_arena() { return gradient_arena_span_; }
  void zero_gradients(Device& device);
  // Call when values have changed: rounds the copies that products read. AdamW::step() does.
  void values_changed(Device& device);

  // A parameter's values for the host to read: where they lie, or on a GPU copied to `memory`.
  std::span<const float> values_on_host(const Parameter& parameter, std::vector<float>& memory) const;
  // What is trained as a checkpoint of the host's memory, to run (Llama) or to write, without a tokenizer. On the CPU it points
  // into this and must not outlive it; Llama decodes norms when it is made: make a new one where norms have changed. On a GPU it is
  // a copy of what is trained.
  std::shared_ptr<Checkpoint> view() const;

  // Of all parameters that such a choice would have, before anything is allocated.
  static std::vector<Shape> shapes(const ModelConfig& config, const TrainChoice& choice);
  // Bytes the constructor allocates: values, gradients, rounded copies; without what of the checkpoint a GPU reads.
  static std::int64_t bytes(const ModelConfig& config, const TrainChoice& choice);
  // Of all values in F32, as averages of them are kept.
  static std::int64_t value_bytes(const ModelConfig& config, const TrainChoice& choice);
  // Of the copy that view() makes of a GPU's.
  static std::int64_t host_copy_bytes(const ModelConfig& config, const TrainChoice& choice);

 private:
  struct Plan;
  void place(const Plan& plan, const TrainChoice& choice);
  void fill(const Plan& plan, const TrainChoice& choice);
  void copy_to_host(Checkpoint& view) const;

  struct Copy {  // a trained matrix and its rounded copy
    std::span<const float> value;
    std::span<std::byte> bytes;
  };

  Device device_;
  std::shared_ptr<const Checkpoint> checkpoint_;  // the host's
  std::shared_ptr<const Checkpoint> frozen_;      // where the device reads it: on a GPU nullptr where all weights are trained
  Arena values_, gradients_arena_, copies_arena_;
  std::span<float> gradient_arena_span_;
  ModelWeights weights_;
  std::vector<LayerAdapters> adapters_;
  ModelGradients gradients_;
  std::vector<Parameter> parameters_;
  std::vector<Copy> copies_;
  Format compute_ = Format::kF32;
};

}  // namespace puna
