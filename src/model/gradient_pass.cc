// SPDX-License-Identifier: Apache-2.0
// Which buffers a layer has of its own depends on what is kept; the rest are shared by all layers, forward and backward.
#include "model/gradient_pass.h"
#include "base/as_size.h"

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "base/error.h"
#include "kernels/collective.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/rows.h"
#include "model/block.h"
#include "model/block_backward.h"
#include "model/rank_share.h"
#include "tensor/arena.h"

namespace puna {
namespace {

struct PassShape {
  const ModelConfig& config;
  std::int64_t rows;  // T
  Keep keep;
  std::int64_t rank;  // r, 0 without adapters

  std::int64_t query_width() const { return config.heads * config.head_width; }
  std::int64_t qkv_width() const { return (config.heads + 2 * config.kv_heads) * config.head_width; }
  std::int64_t widest() const { return std::max({config.width, query_width(), config.feed_forward}); }
  std::int64_t activation_width() const { return std::max(widest(), rank); }
};

// What a layer's backward reads, beside its x.
struct LayerFloats {
  float* qkv = nullptr;                           // [T, (H + 2 G) E]
  float* attention = nullptr;                     // [T, H, E]
  float* log_sum_exp = nullptr;                   // [T, H]
  float* x_middle = nullptr;                      // [T, D]
  float* gate = nullptr;                          // [T, F]
  float* up = nullptr;                            // [T, F]
  std::array<float*, kAdaptedRoleCount> inner{};  // each [T, r]
};

// Every buffer of the arena, listed once: visit(pointer, count) in order. Counted without an arena, then taken from it.
struct GradientFloats {
  float* norms = nullptr;           // [2 L + 1, D] of frozen norms, decoded to F32
  float* hidden = nullptr;          // [T, D]
  float* rope_table = nullptr;      // [T, E / 2, 2]
  float* norm = nullptr;            // [T, D] input of the products of attention, then of the feed-forward network
  float* low_rank_delta = nullptr;  // [T, the widest N]
  std::vector<float*> x;            // [L + 1] of [T, D]; with kNothing one
  std::vector<LayerFloats> layers;  // [L] with kAllActivations, else one
  float* activated = nullptr;       // [T, F]; not with kNothing, nor what follows
  float* dfeed_forward = nullptr;   // [T, F]
  float* dnorm = nullptr;           // [T, D]
  float* dattention = nullptr;      // [T, H, E]
  float* dqkv = nullptr;            // [T, (H + 2 G) E]
  float* dinner = nullptr;          // [T, r]
  float* dx = nullptr;              // [T, D]
  float* dhidden = nullptr;         // [T, D]

  template <typename Visit>
  void each(const PassShape& shape, Visit&& visit) {
    const ModelConfig& config = shape.config;
    const std::int64_t rows = shape.rows, wide = rows * config.width, tall = rows * config.feed_forward;
    visit(norms, (2 * config.layers + 1) * config.width);
    visit(hidden, wide);
    visit(rope_table, rows * config.head_width);
    visit(norm, wide);
    if (shape.rank > 0) visit(low_rank_delta, rows * shape.widest());
    x.resize(shape.keep == Keep::kNothing ? 1 : as_size(config.layers + 1));
    for (float*& input : x) visit(input, wide);
    layers.resize(shape.keep == Keep::kAllActivations ? as_size(config.layers) : 1);
    for (LayerFloats& layer : layers) {
      visit(layer.qkv, rows * shape.qkv_width());
      visit(layer.attention, rows * shape.query_width());
      visit(layer.log_sum_exp, rows * config.heads);
      visit(layer.x_middle, wide);
      visit(layer.gate, tall);
      visit(layer.up, tall);
      if (shape.rank > 0) {
        for (float*& inner : layer.inner) visit(inner, rows * shape.rank);
      }
    }
    if (shape.keep == Keep::kNothing) return;
    visit(activated, tall);
    visit(dfeed_forward, tall);
    visit(dnorm, wide);
    visit(dattention, rows * shape.query_width());
    visit(dqkv, rows * shape.qkv_width());
    if (shape.rank > 0) visit(dinner, rows * shape.rank);
    visit(dx, wide);
    visit(dhidden, wide);
  }
};

// What a batch brings to the device, and the frequencies its positions are turned by.
struct PassNumbers {
  std::span<std::int32_t> tokens;     // [T]; of a rank with rows of the embedding, its own [<= T] as those rows
  std::span<std::int32_t> own_rows;   // [<= T] where they are in the batch
  std::span<std::int32_t> positions;  // [T]
  std::span<double> frequencies;      // [E / 2]

  template <typename Visit>
  void each(const PassShape& shape, Visit&& visit) {
    visit(tokens, shape.rows);
    visit(own_rows, shape.rows);
    visit(positions, shape.rows);
    visit(frequencies, shape.config.head_width / 2);
  }
};

std::int64_t arena_bytes(const PassShape& shape) {
  std::size_t bytes = 0;
  GradientFloats{}.each(shape, [&](float*, std::int64_t count) { bytes += Arena::padded(as_size(count) * sizeof(float)); });
  PassNumbers{}.each(shape,
                     [&]<typename T>(std::span<T>, std::int64_t count) { bytes += Arena::padded(as_size(count) * sizeof(T)); });
  return static_cast<std::int64_t>(bytes);
}

// A trained norm where it lies, which the optimizer changes, and a GPU's, which has F32 ones; another frozen one decoded once.
const float* norm_values(const Tensor& tensor, bool as_it_lies, float* decoded) {
  if (as_it_lies) return reinterpret_cast<const float*>(tensor.bytes.data());
  decode_row(tensor, 0, decoded);
  return decoded;
}

}  // namespace

struct GradientPass::Buffers {
  Buffers(const PassShape& shape, const Parameters& parameters, const Device& device)
      : max_rows(shape.rows),
        arena(device.arena(as_size(arena_bytes(shape)), "the activations of training")),
        activations(device, shape.rows, shape.activation_width()) {
    floats.each(shape, [&](float*& pointer, std::int64_t count) { pointer = arena.take<float>(as_size(count)).data(); });
    numbers.each(shape, [&]<typename T>(std::span<T>& piece, std::int64_t count) { piece = arena.take<T>(as_size(count)); });
    device.copy_in(numbers.frequencies.data(), rope_frequencies(shape.config).data(), numbers.frequencies.size_bytes());
    find_norms(shape, parameters, device.gpu != nullptr);
    own_tokens.reserve(as_size(max_rows));
    own_rows.reserve(as_size(max_rows));
  }

  void find_norms(const PassShape& shape, const Parameters& parameters, bool on_gpu) {
    const ModelWeights& weights = parameters.weights();
    const ModelGradients& gradients = parameters.gradients();
    float* decoded = floats.norms;
    const auto next = [&] { return std::exchange(decoded, decoded + shape.config.width); };
    for (std::size_t l = 0; l < weights.layers.size(); ++l) {
      const LayerWeights& layer = weights.layers[l];
      const LayerGradients& trained = gradients.layers[l];
      attention_norms.push_back(norm_values(layer.attention_norm, on_gpu || trained.attention_norm != nullptr, next()));
      feed_forward_norms.push_back(norm_values(layer.feed_forward_norm, on_gpu || trained.feed_forward_norm != nullptr, next()));
    }
    output_norm = norm_values(weights.output_norm, on_gpu || gradients.output_norm != nullptr, next());
  }

  std::int64_t max_rows;
  Arena arena;
  GradientFloats floats;
  PassNumbers numbers;
  ActivationBuffer activations;
  std::vector<const float*> attention_norms, feed_forward_norms;  // [L] of [D]
  const float* output_norm;                                       // [D]

  PassRows rows;                                   // of the last forward()
  std::vector<std::int32_t> own_tokens, own_rows;  // of it, where the embedding is divided
  bool can_go_back = false;                        // forward() has left what backward() needs
};

GradientPass::GradientPass(Parameters& parameters, Device device, std::int64_t max_rows, Keep keep)
    : parameters_(parameters), device_(device), keep_(keep) {
  PUNA_CHECK(max_rows >= 1, "gradient pass", "planned for {} rows, expected 1 or more", max_rows);
  const PassShape shape{config(), max_rows, keep, largest_rank(parameters.adapters())};
  buffers_ = std::make_unique<Buffers>(shape, parameters, device_);
}

GradientPass::~GradientPass() = default;

const ModelConfig& GradientPass::config() const { return parameters_.config(); }

std::int64_t GradientPass::max_rows() const { return buffers_->max_rows; }

std::int64_t GradientPass::bytes(const ModelConfig& config, std::int64_t max_rows, Keep keep, std::int64_t rank, bool on_gpu) {
  const PassShape shape{config, max_rows, keep, rank};
  return arena_bytes(shape) + ActivationBuffer::bytes(max_rows, shape.activation_width(), on_gpu) +
         2 * config.layers * static_cast<std::int64_t>(sizeof(float*));
}

void GradientPass::check(const PassRows& rows) const {
  const auto count = static_cast<std::int64_t>(rows.tokens.size());
  PUNA_CHECK(count >= 1 && count <= max_rows(), "gradient pass", "a batch of {} rows, expected 1 to {}", count, max_rows());
  PUNA_CHECK(rows.positions.size() == rows.tokens.size(), "gradient pass", "{} positions for {} tokens", rows.positions.size(),
             rows.tokens.size());
  for (const Token token : rows.tokens) {
    if (id(token) >= 0 && id(token) < config().vocabulary) continue;
    fail(ErrorKind::kBadInput, "tokens", "token {} is outside the vocabulary: ids are 0 to {}", id(token), config().vocabulary - 1);
  }
}

std::span<const float> GradientPass::forward(const PassRows& rows) {
  check(rows);
  Buffers& buffers = *buffers_;
  GradientFloats& floats = buffers.floats;
  const auto count = static_cast<std::int64_t>(rows.tokens.size());
  buffers.rows = rows;
  buffers.can_go_back = false;
  const PassNumbers& numbers = buffers.numbers;
  device_.copy_in(numbers.positions.data(), rows.positions.data(), rows.positions.size_bytes());
  rope_table(device_, numbers.frequencies, numbers.positions.first(rows.positions.size()), floats.rope_table);
  embed(rows);
  for (std::int64_t l = 0; l < config().layers; ++l) {
    const Layer layer = this->layer(l);
    block_forward({device_, config(), buffers.activations}, layer.weights, batch(), layer.kv, layer.buffers);
  }
  rms_norm_forward(device_, floats.x.back(), buffers.output_norm, static_cast<float>(config().norm_eps), count, config().width,
                   floats.hidden);
  if (keep_ != Keep::kNothing) device_.zero(dhidden().data(), dhidden().size_bytes());
  buffers.can_go_back = keep_ != Keep::kNothing && (rows.with_adapters || parameters_.adapters().empty());
  return {floats.hidden, as_size(count * config().width)};
}

bool GradientPass::divides_embedding() const { return parameters_.weights().token_embedding.shape[0] != config().vocabulary; }

// -> the first x [T, D]
void GradientPass::embed(const PassRows& rows) {
  Buffers& buffers = *buffers_;
  const PassNumbers& numbers = buffers.numbers;
  const Tensor& embedding = parameters_.weights().token_embedding;
  float* const x = buffers.floats.x.front();
  if (!divides_embedding()) {
    device_.copy_in(numbers.tokens.data(), rows.tokens.data(), rows.tokens.size_bytes());
    return embed_forward(device_, embedding, numbers.tokens.first(rows.tokens.size()), x);
  }
  const std::int64_t first = first_logit(config(), device_.rank, device_.team->ranks()), width = config().width;
  std::vector<std::int32_t>&own_tokens = buffers.own_tokens, &own_rows = buffers.own_rows;
  own_tokens.clear();
  own_rows.clear();
  for (std::size_t t = 0; t < rows.tokens.size(); ++t) {
    const std::int64_t row = id(rows.tokens[t]) - first;
    if (row < 0 || row >= embedding.shape[0]) continue;
    own_tokens.push_back(static_cast<std::int32_t>(row));
    own_rows.push_back(static_cast<std::int32_t>(t));
  }
  const std::int64_t count = static_cast<std::int64_t>(rows.tokens.size()) * width;
  device_.zero(x, as_size(count) * sizeof(float));
  if (!own_rows.empty()) {
    device_.copy_in(numbers.tokens.data(), own_tokens.data(), own_tokens.size() * sizeof(std::int32_t));
    device_.copy_in(numbers.own_rows.data(), own_rows.data(), own_rows.size() * sizeof(std::int32_t));
    embed_forward(device_, embedding, numbers.tokens.first(own_rows.size()), buffers.floats.norm);
    scatter_add_rows(device_, buffers.floats.norm, numbers.own_rows.first(own_rows.size()), width, x);
  }
  sum_over_ranks(device_, x, count);
}

// The gradient of the embedding from dx [T, D] of its rows.
void GradientPass::embed_back() {
  const Buffers& buffers = *buffers_;
  const PassNumbers& numbers = buffers.numbers;
  float* const dembedding = parameters_.gradients().token_embedding;
  const std::int64_t width = config().width;
  if (dembedding == nullptr) return;
  if (!divides_embedding())
    return embed_backward(device_, numbers.tokens.first(buffers.rows.tokens.size()), buffers.floats.dx, width, dembedding);
  const std::size_t own = buffers.own_rows.size();
  if (own == 0) return;
  gather_rows(device_, buffers.floats.dx, numbers.own_rows.first(own), width, buffers.floats.norm);
  embed_backward(device_, numbers.tokens.first(own), buffers.floats.norm, width, dembedding);
}

std::span<float> GradientPass::dhidden() {
  PUNA_CHECK(keep_ != Keep::kNothing, "gradient pass", "a pass that keeps nothing has no gradients");
  return {buffers_->floats.dhidden, buffers_->rows.tokens.size() * as_size(config().width)};
}

GradientPass::Layer GradientPass::layer(std::int64_t index) const {
  const Buffers& buffers = *buffers_;
  const GradientFloats& floats = buffers.floats;
  const std::size_t l = as_size(index);
  const LayerFloats& own = floats.layers[keep_ == Keep::kAllActivations ? l : 0];
  const bool adapted = buffers.rows.with_adapters && !parameters_.adapters().empty();
  return {.weights = {parameters_.weights().layers[l], buffers.attention_norms[l], buffers.feed_forward_norms[l],
                      adapted ? &parameters_.adapters()[l] : nullptr},
          .kv = {buffers.rows.segments, own.log_sum_exp},
          .buffers = {.x = keep_ == Keep::kNothing ? floats.x[0] : floats.x[l],
                      .attention_norm = floats.norm,
                      .qkv = own.qkv,
                      .attention = own.attention,
                      .x_middle = own.x_middle,
                      .feed_forward_norm = floats.norm,
                      .gate = own.gate,
                      .up = own.up,
                      .activated = keep_ == Keep::kNothing ? own.gate : floats.activated,
                      .x_out = keep_ == Keep::kNothing ? floats.x[0] : floats.x[l + 1],
                      .low_rank = {own.inner, floats.low_rank_delta}}};
}

BlockBatch GradientPass::batch() const {
  return {static_cast<std::int64_t>(buffers_->rows.tokens.size()), buffers_->floats.rope_table};
}

void GradientPass::backward(std::span<const float> dhidden) {
  Buffers& buffers = *buffers_;
  GradientFloats& floats = buffers.floats;
  const std::int64_t rows = batch().rows, width = config().width;
  PUNA_CHECK(std::exchange(buffers.can_go_back, false), "gradient pass", "backward without a forward that kept its activations");
  PUNA_CHECK(dhidden.size() == as_size(rows * width), "gradient pass", "a gradient of {} values for [{}, {}]", dhidden.size(), rows,
             width);
  device_.zero(floats.dx, as_size(rows * width) * sizeof(float));
  const ModelGradients& gradients = parameters_.gradients();
  rms_norm_backward(device_,
                    {floats.x.back(), buffers.output_norm, dhidden.data(), static_cast<float>(config().norm_eps), floats.dx,
                     gradients.output_norm},
                    rows, width);
  const BlockBackwardBuffers scratch{.norm = floats.norm,
                                     .dnorm = floats.dnorm,
                                     .dattention = floats.dattention,
                                     .dqkv = floats.dqkv,
                                     .feed_forward = floats.activated,
                                     .dfeed_forward = floats.dfeed_forward,
                                     .dinner = floats.dinner};
  const BlockRun run{device_, config(), buffers.activations};
  for (std::int64_t l = config().layers - 1; l >= 0; --l) {
    const Layer layer = this->layer(l);
    // The last layer's activations are in the shared set still.
    const bool again = keep_ == Keep::kBlockInputs && l + 1 < config().layers;
    if (again) block_forward_again(run, layer.weights, batch(), layer.kv, layer.buffers);
    block_backward(run, layer.weights, batch(), layer.kv, {layer.buffers, scratch, gradients.layers[as_size(l)], floats.dx});
  }
  embed_back();
}

}  // namespace puna
