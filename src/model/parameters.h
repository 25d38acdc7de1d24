// SPDX-License-Identifier: Apache-2.0
// What is trained: F32 values and gradients, each in one arena of the device, over a checkpoint whose other weights stay as they
// lie in the file; where all of them are frozen, a GPU has them too (model/gpu_checkpoint.h), else none. Names are Hugging Face's
// and PEFT's. Tied embeddings are one parameter. Values that decay lie side by side in the arena, so the optimizer's work over all
// of them is one call. Row order of queries and keys is the checkpoint's own (config.rope_pairing).
// A rank of a team (Device::team) has its part of each (model/parameter_list.h), and of frozen weights its share
// (model/rank_share.h); what all ranks have together is seen in model/ranked_parameters.h.
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
#include "model/parameter_list.h"
#include "model/rank_share.h"
#include "model/train_choice.h"
#include "tensor/arena.h"
#include "tensor/format.h"
#include "tensor/tensor.h"

namespace puna {

struct Parameter {
  std::string name;  // "model.layers.0.self_attn.q_proj.weight", "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
  Shape shape;
  std::span<float> value, gradient;   // the device's memory
  bool decays;                        // weight decay is for matrices, not for norms
  ShardAxis axis = ShardAxis::kNone;  // along which the ranks of a team have parts; kNone: all have all of it
};

// Where a checkpoint has what is trained.
struct TrainedPlaces {
  ModelWeights& weights;  // of as many layers as the network
  std::vector<LayerAdapters>& adapters;
  Tensor& reward_head;
};
void put_trained(const ParameterEntry& entry, const Tensor& tensor, const TrainedPlaces& places);

// Gradients by their part in the network; nullptr where a weight is frozen.
struct ModelGradients {
  float* token_embedding = nullptr;    // [V, D]
  std::vector<LayerGradients> layers;  // [L]
  float* output_norm = nullptr;        // [D]
  float* output = nullptr;             // [V, D]; the token embedding's where they are tied

  float*& at(WeightRole role, std::int64_t layer = 0);
  void put(const ParameterEntry& entry, float* gradient);
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

  // H, G and F are the rank's.
  const ModelConfig& config() const { return share_.ranks == 1 ? checkpoint_->config : share_config_; }
  const Checkpoint& checkpoint() const { return *checkpoint_; }  // the whole
  std::shared_ptr<void> owner() const { return std::const_pointer_cast<Checkpoint>(checkpoint_); }
  const Device& device() const { return device_; }
  // Call when the checkpoint's config has changed.
  void config_changed();
  // Where the device reads them: the checkpoint's, trained ones replaced by what is trained (F32, or its copy in BF16).
  const ModelWeights& weights() const { return weights_; }
  std::span<const LayerAdapters> adapters() const { return adapters_; }  // [L], or none
  const ModelGradients& gradients() const { return gradients_; }

  std::span<Parameter> all() { return parameters_; }
  std::span<const Parameter> all() const { return parameters_; }
  std::span<const ParameterEntry> entries() const { return entries_; }               // of all()
  const Tensor& tensor(std::size_t parameter) const { return tensors_[parameter]; }  // as products read it
  // Throws kInternal for a name that is not there.
  Parameter& find(std::string_view name);

  // The whole arena: all gradients with the zeros between them.
  std::span<float> gradient_arena() { return gradient_arena_span_; }
  void zero_gradients(Device& device);
  // Behind the last backward of a step: partial gradients become the ranks' sum. All ranks call it together.
  void finish_gradients(Device& device);
  // Call when values have changed: rounds the copies that products read. AdamW::step() does.
  void values_changed(Device& device);

  // Bytes the constructor allocates, of a rank's parts: values, gradients, rounded copies; without what of the checkpoint a GPU or
  // a rank reads.
  static std::int64_t bytes(const ModelConfig& whole, const TrainChoice& choice, const Share& share = {});
  // Of all values in F32, as averages of them are kept.
  static std::int64_t value_bytes(const ModelConfig& config, const TrainChoice& choice);
  // Of the copy that view() makes of what lies on GPUs or in parts.
  static std::int64_t host_copy_bytes(const ModelConfig& config, const TrainChoice& choice);

 private:
  void place(const TrainChoice& choice);
  void fill(const TrainChoice& choice);
  void draw(std::size_t parameter, const TrainChoice& choice, std::size_t first, std::span<float> piece);

  struct Copy {  // a trained matrix and its rounded copy
    std::span<const float> value;
    std::span<std::byte> bytes;
  };

  Device device_;
  std::shared_ptr<const Checkpoint> checkpoint_;  // the host's
  Share share_;
  ModelConfig share_config_;                  // of several ranks
  std::shared_ptr<const Checkpoint> frozen_;  // where the device reads it; nullptr where all weights are trained
  Arena values_, gradients_arena_, copies_arena_;
  std::span<float> gradient_arena_span_;
  ModelWeights weights_;
  std::vector<LayerAdapters> adapters_;
  ModelGradients gradients_;
  std::vector<ParameterEntry> entries_;
  std::vector<Parameter> parameters_;  // [entries]
  std::vector<Tensor> tensors_;        // [entries]
  std::vector<Copy> copies_;
  Format compute_ = Format::kF32;
};

}  // namespace puna
