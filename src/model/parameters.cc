// SPDX-License-Identifier: Apache-2.0
// The list of entries is walked for everything: counting bytes, taking memory, putting tensors in place, filling them.
#include "model/parameters.h"
#include "base/as_size.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "kernels/collective.h"
#include "kernels/rows.h"
#include "model/gpu_checkpoint.h"
#include "model/host_pieces.h"
#include "model/weight_draw.h"

namespace puna {
namespace {

std::size_t float_bytes(const Shape& shape) { return Arena::padded(as_size(shape.count()) * sizeof(float)); }

std::size_t copy_bytes(const Shape& shape, Format format) { return Arena::padded(as_size(format_bytes(format, shape.count()))); }

struct PlannedBytes {
  std::size_t values = 0, copies = 0;
};
PlannedBytes planned_bytes(std::span<const ParameterEntry> entries, const TrainChoice& choice) {
  PlannedBytes bytes;
  for (const ParameterEntry& entry : entries) {
    bytes.values += float_bytes(entry.shape);
    if (entry.rounds(choice)) bytes.copies += copy_bytes(entry.shape, choice.compute);
  }
  return bytes;
}

Tensor f32_tensor(const std::string& name, const Shape& shape, std::span<const float> values) {
  return {.name = name, .format = Format::kF32, .shape = shape, .bytes = std::as_bytes(values), .row_scales = {}};
}

Share share_on(const Checkpoint& checkpoint, const Device& device) {
  return device.team == nullptr ? Share{} : share_of_rank(checkpoint, device.rank, device.team->ranks());
}

// What the rank reads of the checkpoint, where its device reads it. Nothing is read where all weights are trained.
std::shared_ptr<const Checkpoint> frozen_weights(const std::shared_ptr<const Checkpoint>& checkpoint, const TrainChoice& choice,
                                                 const Share& share, const Device& device) {
  if (choice.trained == Trained::kWeights) return nullptr;
  if (device.gpu == nullptr) return share_on_host(checkpoint, share);
  return load_on_gpu(checkpoint, std::shared_ptr<Gpu>(std::shared_ptr<Gpu>(), device.gpu), share);  // the GPU outlives its devices
}

}  // namespace

Parameters::Parameters(std::shared_ptr<const Checkpoint> checkpoint, const TrainChoice& choice, Device device)
    : device_(device), checkpoint_(std::move(checkpoint)), share_(share_on(*checkpoint_, device_)), compute_(choice.compute) {
  check_choice(checkpoint_->config, choice);
  config_changed();
  entries_ = parameter_entries(checkpoint_->config, choice, share_);
  const PlannedBytes bytes = planned_bytes(entries_, choice);
  values_ = device_.arena(bytes.values, "the trained weights");
  gradients_arena_ = device_.arena(bytes.values, "the gradients");
  copies_arena_ = device_.arena(bytes.copies, "the rounded weights");
  frozen_ = frozen_weights(checkpoint_, choice, share_, device_);
  if (frozen_) weights_ = frozen_->weights;
  parameters_.resize(entries_.size());
  for (const bool decays : {true, false}) {
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      const ParameterEntry& entry = entries_[i];
      if (entry.decays != decays) continue;
      const std::size_t count = as_size(entry.shape.count());
      parameters_[i] = {entry.name, entry.shape, values_.take<float>(count), gradients_arena_.take<float>(count),
                        decays,     entry.axis};
    }
  }
  if (!parameters_.empty()) {
    const auto first = std::ranges::min_element(parameters_, {}, [](const Parameter& row) { return row.gradient.data(); });
    gradient_arena_span_ = {first->gradient.data(), bytes.values / sizeof(float)};
  }
  weights_.layers.resize(as_size(config().layers));
  gradients_.layers.resize(as_size(config().layers));
  place(choice);
  fill(choice);
  values_changed(device_);
}

void Parameters::config_changed() {
  if (share_.ranks > 1) share_config_ = config_of_share(checkpoint_->config, share_);
}

void put_trained(const ParameterEntry& entry, const Tensor& tensor, const TrainedPlaces& places) {
  using Kind = ParameterEntry::Kind;
  if (entry.kind == Kind::kWeight) {
    places.weights.at(entry.role, entry.layer) = tensor;
  } else if (entry.kind == Kind::kExtra) {
    if (entry.name == kRewardHead) places.reward_head = tensor;
  } else {
    places.adapters.resize(std::max(places.adapters.size(), as_size(entry.layer + 1)));
    LowRank& adapter = places.adapters[as_size(entry.layer)].at(entry.role);
    (entry.kind == Kind::kAdapterA ? adapter.a : adapter.b) = tensor;
    adapter.scale = entry.scale;
  }
}

// Points weights, adapters and gradients at the memory.
void Parameters::place(const TrainChoice& choice) {
  Tensor reward_head;  // which no product reads
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const ParameterEntry& entry = entries_[i];
    const Parameter& parameter = parameters_[i];
    Tensor tensor = f32_tensor(entry.name, entry.shape, parameter.value);
    if (entry.rounds(choice)) {
      const std::span<std::byte> bytes = copies_arena_.take(as_size(format_bytes(compute_, entry.shape.count())));
      copies_.push_back({parameter.value, bytes});
      tensor.format = compute_;
      tensor.bytes = bytes;
    }
    put_trained(entry, tensor, {weights_, adapters_, reward_head});
    gradients_.put(entry, parameter.gradient.data());
    tensors_.push_back(std::move(tensor));
  }
  if (config().tied_embeddings && choice.trained == Trained::kWeights) {
    weights_.output = weights_.token_embedding;
    gradients_.output = gradients_.token_embedding;
  }
}

void Parameters::fill(const TrainChoice& choice) {
  HostPieces pieces(device_);
  std::vector<float> whole_rows;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const ParameterEntry& entry = entries_[i];
    if (entry.kind == ParameterEntry::Kind::kAdapterB) continue;  // the arena is zeroed: a new adapter changes nothing
    const std::size_t length = as_size(entry.shape.row_length()), whole_length = as_size(entry.whole.row_length());
    pieces.fill(parameters_[i].value, length, [&](std::size_t first, std::span<float> piece) {
      if (entry.axis != ShardAxis::kColumns) return draw(i, choice, first + as_size(entry.first) * length, piece);
      // Rows are made whole, a few at a time, and the rank's columns kept.
      const std::size_t most = std::max<std::size_t>(1, HostPieces::kBytes / sizeof(float) / whole_length);
      for (std::size_t at = 0; at < piece.size(); at += most * length) {
        const std::size_t rows = std::min(most, (piece.size() - at) / length);
        whole_rows.resize(rows * whole_length);
        draw(i, choice, (first + at) / length * whole_length, whole_rows);
        for (std::size_t n = 0; n < rows; ++n)
          std::copy_n(whole_rows.data() + n * whole_length + as_size(entry.first), length, piece.data() + at + n * length);
      }
    });
  }
}

// The values of the whole from `first` on, in whole rows: the checkpoint's, or new ones.
void Parameters::draw(std::size_t parameter, const TrainChoice& choice, std::size_t first, std::span<float> piece) {
  const ParameterEntry& entry = entries_[parameter];
  const std::int64_t length = entry.whole.row_length();
  const auto decode = [&](const Tensor& tensor) {
    const std::int64_t first_row = static_cast<std::int64_t>(first) / length,
                       rows = static_cast<std::int64_t>(piece.size()) / length;
    device_.pool.split(rows, 1, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t n = begin; n < end; ++n) decode_row(tensor, first_row + n, piece.data() + n * length);
    });
  };
  const WeightDraw draw{choice.seed, parameter, device_, first};
  if (entry.kind == ParameterEntry::Kind::kAdapterA) {
    draw.uniform(1 / std::sqrt(static_cast<double>(length)), piece);
  } else if (entry.kind == ParameterEntry::Kind::kExtra) {
    if (entry.name == kRewardHead && checkpoint_->reward_head) return decode(checkpoint_->reward_head);
    draw.normal({.spread = entry.spread}, piece);
  } else {
    if (!choice.new_weights) return decode(checkpoint_->weights.at(entry.role, entry.layer));
    draw.weight(checkpoint_->config, entry.role, entry.layer, piece);
  }
}

Parameter& Parameters::find(std::string_view name) {
  const auto place = std::ranges::find(parameters_, name, &Parameter::name);
  PUNA_CHECK(place != parameters_.end(), "parameters", "{} is not among what is trained", name);
  return *place;
}

void Parameters::zero_gradients(Device& device) { device.zero(gradient_arena_span_.data(), gradient_arena_span_.size_bytes()); }

void Parameters::finish_gradients(Device& device) {
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (entries_[i].partial) sum_over_ranks(device, parameters_[i].gradient.data(), parameters_[i].shape.count());
  }
}

void Parameters::values_changed(Device& device) {
  for (const Copy& copy : copies_) round_values(device, copy.value, compute_, copy.bytes.data());
}

std::int64_t Parameters::bytes(const ModelConfig& whole, const TrainChoice& choice, const Share& share) {
  const PlannedBytes bytes = planned_bytes(parameter_entries(whole, choice, share), choice);
  return static_cast<std::int64_t>(2 * bytes.values + bytes.copies);
}

std::int64_t Parameters::value_bytes(const ModelConfig& config, const TrainChoice& choice) {
  return static_cast<std::int64_t>(planned_bytes(parameter_entries(config, choice, {}), choice).values);
}

std::int64_t Parameters::host_copy_bytes(const ModelConfig& config, const TrainChoice& choice) {
  std::size_t bytes = 0;
  for (const ParameterEntry& entry : parameter_entries(config, choice, {}))
    bytes += entry.rounds(choice) ? copy_bytes(entry.shape, choice.compute) : float_bytes(entry.shape);
  return static_cast<std::int64_t>(bytes);
}

void ModelGradients::put(const ParameterEntry& entry, float* gradient) {
  using Kind = ParameterEntry::Kind;
  if (entry.kind == Kind::kExtra) return;  // the objective's own
  if (entry.kind == Kind::kWeight) {
    at(entry.role, entry.layer) = gradient;
  } else {
    LowRankGradient& adapter = layers.at(as_size(entry.layer)).adapters[adapter_index(entry.role)];
    (entry.kind == Kind::kAdapterA ? adapter.a : adapter.b) = gradient;
  }
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
