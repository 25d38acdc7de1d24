// SPDX-License-Identifier: Apache-2.0
// Small networks in memory for tests, and whether two are the same. Weights are wide enough for attention to be sharp, so that a
// wrong position or head changes the logits visibly; norms are not ones.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "model/checkpoint.h"

namespace puna {

// Every width is a multiple of 256, so that all formats fit.
inline ModelConfig tiny_config() {
  ModelConfig config;
  config.name = "tiny";
  config.layers = 2;
  config.width = 256;
  config.heads = 8;
  config.kv_heads = 2;
  config.head_width = 32;
  config.feed_forward = 512;
  config.vocabulary = 96;
  config.context = 512;
  config.rope_theta = 1000;
  return config;
}

// Rows that no super-block divides, a longer context than is ever held, scaled frequencies: what files have to say.
inline ModelConfig small_config() {
  ModelConfig config;
  config.name = "small";
  config.layers = 3;
  config.width = 64;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_width = 16;
  config.feed_forward = 96;
  config.vocabulary = 40;
  config.context = 131072;
  config.rope_theta = 500000;
  config.rope_scaling = RopeScaling{};
  return config;
}

class TinyCheckpointMaker {
 public:
  TinyCheckpointMaker(const ModelConfig& config, Format format, std::uint64_t seed)
      : checkpoint_(std::make_shared<Checkpoint>()), format_(format), seed_(seed) {
    checkpoint_->config = config;
    checkpoint_->where = "tiny";
    checkpoint_->weights.layers.resize(static_cast<std::size_t>(config.layers));
    for (const WeightRoleInfo& role : weight_roles()) {
      for (std::int64_t layer = 0; layer < (role.per_layer ? config.layers : 1); ++layer) add(role.role, layer);
    }
  }
  std::shared_ptr<Checkpoint> take() { return std::move(checkpoint_); }

 private:
  void add(WeightRole role, std::int64_t layer) {
    const Shape shape = weight_shape(checkpoint_->config, role);
    const bool norm = shape.rank() == 1;
    const double spread = norm ? 0.2 : role == WeightRole::kTokenEmbedding ? 1.0 : 1.5 / std::sqrt(shape.row_length());
    std::vector<float> values(static_cast<std::size_t>(shape.count()));
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>((norm ? 1 : 0) + spread * random_normal(seed_, tensors_, i));
    }
    Tensor& tensor = checkpoint_->weights.at(role, layer);
    tensor.name = "tensor " + std::to_string(tensors_);
    tensor.format = norm ? Format::kF32 : format_;
    tensor.shape = shape;
    auto bytes = std::make_shared<std::vector<std::byte>>(static_cast<std::size_t>(format_bytes(tensor.format, shape.count())));
    info(tensor.format).encode(values.data(), bytes->data(), shape.count());
    tensor.bytes = *bytes;
    checkpoint_->weight_bytes += static_cast<std::int64_t>(bytes->size());
    checkpoint_->owners.push_back(bytes);
    ++tensors_;
  }

  std::shared_ptr<Checkpoint> checkpoint_;
  Format format_;
  std::uint64_t seed_, tensors_ = 0;
};

inline std::shared_ptr<Checkpoint> tiny_checkpoint(const ModelConfig& config, Format format, std::uint64_t seed = 1) {
  return TinyCheckpointMaker(config, format, seed).take();
}

// Byte equality of every weight: format, shape, values and scales.
inline std::string first_difference(const Checkpoint& a, const Checkpoint& b) {
  if (a.config.layers != b.config.layers) return "layers";
  if (a.config.tied_embeddings != b.config.tied_embeddings) return "tied";
  for (const WeightRoleInfo& row : weight_roles()) {
    for (std::int64_t layer = 0; layer < (row.per_layer ? a.config.layers : 1); ++layer) {
      const Tensor &x = a.weights.at(row.role, layer), &y = b.weights.at(row.role, layer);
      const bool same = x.format == y.format && x.shape == y.shape && x.bytes.size() == y.bytes.size() &&
                        std::memcmp(x.bytes.data(), y.bytes.data(), x.bytes.size()) == 0 &&
                        x.row_scales.size() == y.row_scales.size() &&
                        (x.row_scales.empty() || std::memcmp(x.row_scales.data(), y.row_scales.data(), x.row_scales.size()) == 0);
      if (!same) return std::string(info(x.format).name) + " " + x.name + " and " + std::string(info(y.format).name) + " " + y.name;
    }
  }
  return "";
}

inline std::vector<Token> random_tokens(std::int64_t count, std::int64_t vocabulary, std::uint64_t seed = 7) {
  std::vector<Token> tokens;
  for (std::int64_t t = 0; t < count; ++t) {
    tokens.push_back(Token{
        static_cast<std::int32_t>(random_bits(seed, 99, static_cast<std::uint64_t>(t)) % static_cast<std::uint64_t>(vocabulary))});
  }
  return tokens;
}

}  // namespace puna
