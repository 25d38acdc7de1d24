// SPDX-License-Identifier: Apache-2.0
// One list of entries is walked for everything: counting bytes, taking memory, putting tensors in place, filling them.
#include "model/parameters.h"
#include "base/as_size.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "kernels/rows.h"
#include "model/gpu_checkpoint.h"
#include "model/host_pieces.h"
#include "model/weight_draw.h"

namespace puna {
namespace {

enum class EntryKind { kWeight, kAdapterA, kAdapterB, kExtra };

struct Entry {
  EntryKind kind;
  std::string name;
  Shape shape;
  bool decays;
  WeightRole role = WeightRole::kTokenEmbedding;  // of weights and adapters
  std::int64_t layer = 0;
  double spread = 0;  // of extra parameters
};

// Tied embeddings are one matrix.
template <typename Visit>
void each_weight(const ModelConfig& config, Visit&& visit) {
  for (const WeightRoleInfo& row : weight_roles()) {
    if (row.role == WeightRole::kOutput && config.tied_embeddings) continue;
    for (std::int64_t layer = 0; layer < (row.per_layer ? config.layers : 1); ++layer) visit(row.role, layer);
  }
}

std::vector<Entry> weight_entries(const ModelConfig& config) {
  std::vector<Entry> entries;
  each_weight(config, [&](WeightRole role, std::int64_t layer) {
    const Shape shape = weight_shape(config, role);
    entries.push_back(
        {EntryKind::kWeight, weight_name(role, &WeightRoleInfo::hugging_face, layer), shape, shape.rank() > 1, role, layer});
  });
  return entries;
}

std::string adapter_name(WeightRole role, std::int64_t layer, std::string_view matrix) {
  const std::string name = weight_name(role, &WeightRoleInfo::hugging_face, layer);
  return fmt::format("base_model.model.{}.{}.weight", name.substr(0, name.rfind('.')), matrix);
}

std::vector<Entry> adapter_entries(const ModelConfig& config, const LoraChoice& lora) {
  std::vector<Entry> entries;
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    for (const WeightRole role : kAdaptedRoles) {
      if (std::ranges::find(lora.roles, role) == lora.roles.end()) continue;
      const Shape shape = weight_shape(config, role);
      entries.push_back({EntryKind::kAdapterA, adapter_name(role, layer, "lora_A"), Shape{lora.rank, shape[1]}, true, role, layer});
      entries.push_back({EntryKind::kAdapterB, adapter_name(role, layer, "lora_B"), Shape{shape[0], lora.rank}, true, role, layer});
    }
  }
  return entries;
}

void check_choice(const ModelConfig& config, const TrainChoice& choice) {
  if (choice.compute != Format::kF32 && choice.compute != Format::kBF16) {
    fail(ErrorKind::kUsage, "weights", "training computes with f32 or bf16 weights, not with {}", info(choice.compute).name);
  }
  if (choice.new_weights && choice.trained != Trained::kWeights) {
    fail(ErrorKind::kUsage, "lora", "a new network has nothing to adapt: train all of its weights");
  }
  if (choice.trained != Trained::kAdapters) return;
  const LoraChoice& lora = choice.lora;
  const std::int64_t largest = std::min({config.width, config.heads * config.head_width, config.feed_forward});
  if (lora.rank < 1 || lora.rank > largest) {
    fail(ErrorKind::kUsage, "lora.rank", "{} is no rank for matrices of this model: expected 1 to {}", lora.rank, largest);
  }
  if (!std::isfinite(lora.alpha) || lora.alpha <= 0) {
    fail(ErrorKind::kUsage, "lora.alpha", "{} found, expected a number above 0", lora.alpha);
  }
  if (lora.roles.empty()) fail(ErrorKind::kUsage, "lora.targets", "no matrices chosen: name at least one, such as q_proj");
  for (const WeightRole role : lora.roles) adapter_index(role);
}

std::size_t float_bytes(const Shape& shape) { return Arena::padded(as_size(shape.count()) * sizeof(float)); }

std::size_t copy_bytes(const Shape& shape, Format format) { return Arena::padded(as_size(format_bytes(format, shape.count()))); }

bool has_copy(const Entry& entry, const TrainChoice& choice) {
  return entry.kind == EntryKind::kWeight && entry.decays && choice.compute != Format::kF32;
}

std::vector<Entry> entries_of(const ModelConfig& config, const TrainChoice& choice) {
  std::vector<Entry> entries;
  if (choice.trained == Trained::kWeights) entries = weight_entries(config);
  if (choice.trained == Trained::kAdapters) entries = adapter_entries(config, choice.lora);
  for (const ExtraParameter& extra : choice.extra) {
    Entry entry{EntryKind::kExtra, extra.name, extra.shape, extra.decays};
    entry.spread = extra.spread;
    entries.push_back(std::move(entry));
  }
  return entries;
}

Tensor f32_tensor(const std::string& name, const Shape& shape, std::span<const float> values) {
  return {.name = name, .format = Format::kF32, .shape = shape, .bytes = std::as_bytes(values), .row_scales = {}};
}

// The checkpoint where the device reads it. On a GPU nothing is read where all weights are trained.
std::shared_ptr<const Checkpoint> frozen_weights(const std::shared_ptr<const Checkpoint>& checkpoint, const TrainChoice& choice,
                                                 const Device& device) {
  if (device.gpu == nullptr) return checkpoint;
  if (choice.trained == Trained::kWeights) return nullptr;
  return load_on_gpu(checkpoint, std::shared_ptr<Gpu>(std::shared_ptr<Gpu>(), device.gpu));  // the GPU outlives its devices
}

}  // namespace

struct Parameters::Plan {
  std::vector<Entry> entries;
  std::size_t values = 0, copies = 0;  // bytes

  Plan(const ModelConfig& config, const TrainChoice& choice) : entries(entries_of(config, choice)) {
    for (const Entry& entry : entries) {
      values += float_bytes(entry.shape);
      if (has_copy(entry, choice)) copies += copy_bytes(entry.shape, choice.compute);
    }
  }
};

Parameters::Parameters(std::shared_ptr<const Checkpoint> checkpoint, const TrainChoice& choice, Device device)
    : device_(device), checkpoint_(std::move(checkpoint)), compute_(choice.compute) {
  check_choice(config(), choice);
  const Plan plan(config(), choice);
  values_ = device_.arena(plan.values, "the trained weights");
  gradients_arena_ = device_.arena(plan.values, "the gradients");
  copies_arena_ = device_.arena(plan.copies, "the rounded weights");
  frozen_ = frozen_weights(checkpoint_, choice, device_);
  if (frozen_) weights_ = frozen_->weights;
  parameters_.resize(plan.entries.size());
  for (const bool decays : {true, false}) {
    for (std::size_t i = 0; i < plan.entries.size(); ++i) {
      const Entry& entry = plan.entries[i];
      if (entry.decays != decays) continue;
      const std::size_t count = as_size(entry.shape.count());
      parameters_[i] = {entry.name, entry.shape, values_.take<float>(count), gradients_arena_.take<float>(count), decays};
    }
  }
  if (!parameters_.empty()) {
    const auto first = std::ranges::min_element(parameters_, {}, [](const Parameter& row) { return row.gradient.data(); });
    gradient_arena_span_ = {first->gradient.data(), plan.values / sizeof(float)};
  }
  weights_.layers.resize(as_size(config().layers));
  gradients_.layers.resize(as_size(config().layers));
  place(plan, choice);
  fill(plan, choice);
  values_changed(device_);
}

// Points weights, adapters and gradients at the memory.
void Parameters::place(const Plan& plan, const TrainChoice& choice) {
  if (choice.trained == Trained::kAdapters) adapters_.resize(as_size(config().layers));
  for (std::size_t i = 0; i < plan.entries.size(); ++i) {
    const Entry& entry = plan.entries[i];
    const Parameter& parameter = parameters_[i];
    Tensor tensor = f32_tensor(entry.name, entry.shape, parameter.value);
    switch (entry.kind) {
      case EntryKind::kWeight:
        if (has_copy(entry, choice)) {
          const std::span<std::byte> bytes = copies_arena_.take(as_size(format_bytes(compute_, entry.shape.count())));
          copies_.push_back({parameter.value, bytes});
          tensor.format = compute_;
          tensor.bytes = bytes;
        }
        weights_.at(entry.role, entry.layer) = tensor;
        gradients_.at(entry.role, entry.layer) = parameter.gradient.data();
        break;
      case EntryKind::kAdapterA: {
        LowRank& adapter = adapters_[as_size(entry.layer)].at(entry.role);
        adapter.a = tensor;
        adapter.scale = static_cast<float>(choice.lora.alpha / static_cast<double>(choice.lora.rank));
        gradients_.layers[as_size(entry.layer)].adapters[adapter_index(entry.role)].a = parameter.gradient.data();
        break;
      }
      case EntryKind::kAdapterB:
        adapters_[as_size(entry.layer)].at(entry.role).b = tensor;
        gradients_.layers[as_size(entry.layer)].adapters[adapter_index(entry.role)].b = parameter.gradient.data();
        break;
      case EntryKind::kExtra:
        break;
    }
  }
  if (config().tied_embeddings && choice.trained == Trained::kWeights) {
    weights_.output = weights_.token_embedding;
    gradients_.output = gradients_.token_embedding;
  }
}

void Parameters::fill(const Plan& plan, const TrainChoice& choice) {
  HostPieces pieces(device_);
  for (std::size_t i = 0; i < plan.entries.size(); ++i) {
    const Entry& entry = plan.entries[i];
    const std::int64_t length = entry.shape.row_length();
    const auto decode = [&](const Tensor& tensor, std::size_t first, std::span<float> piece) {
      const std::int64_t first_row = static_cast<std::int64_t>(first) / length,
                         rows = static_cast<std::int64_t>(piece.size()) / length;
      device_.pool.split(rows, 1, [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t n = begin; n < end; ++n) decode_row(tensor, first_row + n, piece.data() + n * length);
      });
    };
    if (entry.kind == EntryKind::kAdapterB) continue;  // the arena is zeroed: a new adapter changes nothing
    pieces.fill(parameters_[i].value, as_size(length), [&](std::size_t first, std::span<float> piece) {
      const WeightDraw draw{choice.seed, i, device_, first};
      if (entry.kind == EntryKind::kAdapterA) {
        draw.uniform(1 / std::sqrt(static_cast<double>(length)), piece);
      } else if (entry.kind == EntryKind::kExtra) {
        if (entry.name == kRewardHead && checkpoint_->reward_head) return decode(checkpoint_->reward_head, first, piece);
        draw.normal({.spread = entry.spread}, piece);
      } else {
        if (!choice.new_weights) return decode(checkpoint_->weights.at(entry.role, entry.layer), first, piece);
        draw.weight(config(), entry.role, entry.layer, piece);
      }
    });
  }
}

Parameter& Parameters::find(std::string_view name) {
  const auto place = std::ranges::find(parameters_, name, &Parameter::name);
  PUNA_CHECK(place != parameters_.end(), "parameters", "{} is not among what is trained", name);
  return *place;
}

std::int64_t Parameters::count() const {
  std::int64_t count = 0;
  for (const Parameter& parameter : parameters_) count += parameter.shape.count();
  return count;
}

void Parameters::zero_gradients(Device& device) { device.zero(gradient_arena_span_.data(), gradient_arena_span_.size_bytes()); }

void Parameters::values_changed(Device& device) {
  for (const Copy& copy : copies_) round_values(device, copy.value, compute_, copy.bytes.data());
}

std::span<const float> Parameters::values_on_host(const Parameter& parameter, std::vector<float>& memory) const {
  if (device_.gpu == nullptr) return parameter.value;
  memory.resize(parameter.value.size());
  device_.copy_out(memory.data(), parameter.value.data(), parameter.value.size_bytes());
  return memory;
}

std::shared_ptr<Checkpoint> Parameters::view() const {
  auto view = std::make_shared<Checkpoint>();
  view->config = config();
  view->weights = weights_;
  view->adapters = adapters_;
  view->reward_head = checkpoint_->reward_head;
  const auto head = std::ranges::find(parameters_, kRewardHead, &Parameter::name);
  if (head != parameters_.end()) view->reward_head = f32_tensor(head->name, head->shape, head->value);
  view->where = checkpoint_->where;
  view->chat_template = checkpoint_->chat_template;
  view->prompt_format = checkpoint_->prompt_format;
  view->owners.push_back(std::const_pointer_cast<Checkpoint>(checkpoint_));
  if (device_.gpu != nullptr) copy_to_host(*view);
  each_weight(config(), [&](WeightRole role, std::int64_t layer) {
    const Tensor& tensor = view->weights.at(role, layer);
    view->weight_bytes += static_cast<std::int64_t>(tensor.bytes.size() + tensor.row_scales.size());
  });
  return view;
}

// What is trained is copied, what is frozen lies in the host's checkpoint already.
void Parameters::copy_to_host(Checkpoint& view) const {
  const auto each_trained = [&](auto&& visit) {
    if (!frozen_) each_weight(config(), [&](WeightRole role, std::int64_t layer) { visit(view.weights.at(role, layer)); });
    for (LayerAdapters& layer : view.adapters) {
      for (LowRank& adapter : layer.matrices) {
        if (!adapter) continue;
        visit(adapter.a);
        visit(adapter.b);
      }
    }
    if (std::ranges::count(parameters_, kRewardHead, &Parameter::name) > 0) visit(view.reward_head);
  };
  if (frozen_) view.weights = checkpoint_->weights;
  std::size_t bytes = 0;
  each_trained([&](const Tensor& tensor) { bytes += Arena::padded(tensor.bytes.size()); });
  const auto arena = std::make_shared<Arena>(bytes, "a copy of the trained weights");
  each_trained([&](Tensor& tensor) {
    const std::span<std::byte> copy = arena->take(tensor.bytes.size());
    device_.copy_out(copy.data(), tensor.bytes.data(), copy.size());
    tensor.bytes = copy;
  });
  if (config().tied_embeddings) view.weights.output = view.weights.token_embedding;
  view.owners.push_back(arena);
}

std::vector<Shape> Parameters::shapes(const ModelConfig& config, const TrainChoice& choice) {
  std::vector<Shape> shapes;
  for (const Entry& entry : entries_of(config, choice)) shapes.push_back(entry.shape);
  return shapes;
}

std::int64_t Parameters::bytes(const ModelConfig& config, const TrainChoice& choice) {
  const Plan plan(config, choice);
  return static_cast<std::int64_t>(2 * plan.values + plan.copies);
}

std::int64_t Parameters::value_bytes(const ModelConfig& config, const TrainChoice& choice) {
  std::size_t bytes = 0;
  for (const Entry& entry : entries_of(config, choice)) bytes += float_bytes(entry.shape);
  return static_cast<std::int64_t>(bytes);
}

std::int64_t Parameters::host_copy_bytes(const ModelConfig& config, const TrainChoice& choice) {
  std::size_t bytes = 0;
  for (const Entry& entry : entries_of(config, choice))
    bytes += has_copy(entry, choice) ? copy_bytes(entry.shape, choice.compute) : float_bytes(entry.shape);
  return static_cast<std::int64_t>(bytes);
}

float*& ModelGradients::at(WeightRole role, std::int64_t layer) {
  switch (role) {
    case WeightRole::kTokenEmbedding:
      return token_embedding;
    case WeightRole::kOutputNorm:
      return output_norm;
    case WeightRole::kOutput:
      return output;
    case WeightRole::kAttentionNorm:
      return layers.at(as_size(layer)).attention_norm;
    case WeightRole::kFeedForwardNorm:
      return layers.at(as_size(layer)).feed_forward_norm;
    default:
      return layers.at(as_size(layer)).matrices[adapter_index(role)];
  }
}

}  // namespace puna
