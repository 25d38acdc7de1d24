// SPDX-License-Identifier: Apache-2.0
// The whole network once more in plain double-precision loops, position by position, from the equations alone: no cache, no batch,
// none of the kernels. Only the decoding of weights is shared.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "model/checkpoint.h"

namespace puna {

class LlamaOracle {
 public:
  using Row = std::vector<double>;

  // round_activations: as the products with quantized weights do, 8 bits in blocks of 32.
  LlamaOracle(const Checkpoint& checkpoint, bool round_activations)
      : config_(checkpoint.config), weights_(checkpoint.weights), round_(round_activations) {}

  // Logits [T][V] of every position.
  std::vector<Row> logits(std::span<const Token> tokens) const {
    std::vector<Row> x;
    for (const Token token : tokens) x.push_back(decoded(weights_.token_embedding, id(token)));
    for (const LayerWeights& layer : weights_.layers) {
      add_attention(layer, x);
      for (Row& row : x) add(row, feed_forward(layer, normed(row, layer.feed_forward_norm)));
    }
    std::vector<Row> result;
    for (const Row& row : x) result.push_back(product(weights_.output, normed(row, weights_.output_norm)));
    return result;
  }

 private:
  static Row decoded(const Tensor& tensor, std::int64_t n) {
    std::vector<float> values(static_cast<std::size_t>(tensor.shape.row_length()));
    decode_row(tensor, n, values.data());
    return {values.begin(), values.end()};
  }

  static void add(Row& x, const Row& delta) {
    for (std::size_t d = 0; d < x.size(); ++d) x[d] += delta[d];
  }

  Row normed(const Row& x, const Tensor& weight) const {
    double sum = 0;
    for (const double value : x) sum += value * value;
    const double scale = 1 / std::sqrt(sum / static_cast<double>(x.size()) + config_.norm_eps);
    Row y = decoded(weight, 0);
    for (std::size_t d = 0; d < x.size(); ++d) y[d] *= x[d] * scale;
    return y;
  }

  Row product(const Tensor& weight, Row x) const {
    for (std::size_t begin = 0; round_ && begin < x.size(); begin += 32) {
      double largest = 0;
      for (std::size_t i = begin; i < begin + 32; ++i) largest = std::max(largest, std::fabs(x[i]));
      const double step = largest / 127;
      for (std::size_t i = begin; i < begin + 32; ++i) x[i] = step == 0 ? 0 : step * std::nearbyint(x[i] / step);
    }
    Row y;
    for (std::int64_t n = 0; n < weight.shape[0]; ++n) {
      const Row w = decoded(weight, n);
      double sum = 0;
      for (std::size_t k = 0; k < w.size(); ++k) sum += w[k] * x[k];
      y.push_back(sum);
    }
    return y;
  }

  // Turns every head of a row to its position: (a, b) -> (a cos - b sin, a sin + b cos).
  void rotate(Row& row, std::size_t position) const {
    const auto head_width = static_cast<std::size_t>(config_.head_width), pairs = head_width / 2;
    const bool halves = config_.rope_pairing == RopePairing::kHalves;
    for (std::size_t head = 0; head < row.size(); head += head_width) {
      for (std::size_t p = 0; p < pairs; ++p) {
        const double angle = static_cast<double>(position) *
                             std::pow(config_.rope_theta, -2.0 * static_cast<double>(p) / static_cast<double>(head_width));
        double& a = row[head + (halves ? p : 2 * p)];
        double& b = row[head + (halves ? p + pairs : 2 * p + 1)];
        const double turned = a * std::cos(angle) - b * std::sin(angle);
        b = a * std::sin(angle) + b * std::cos(angle);
        a = turned;
      }
    }
  }

  void add_attention(const LayerWeights& layer, std::vector<Row>& x) const {
    std::vector<Row> q, k, v;
    for (std::size_t t = 0; t < x.size(); ++t) {
      const Row n = normed(x[t], layer.attention_norm);
      q.push_back(product(layer.query, n));
      k.push_back(product(layer.key, n));
      v.push_back(product(layer.value, n));
      rotate(q[t], t);
      rotate(k[t], t);
    }
    for (std::size_t t = 0; t < x.size(); ++t) {
      Row mixed(q[t].size());
      for (std::size_t h = 0; h < static_cast<std::size_t>(config_.heads); ++h) mix_head(h, t, q[t], k, v, mixed);
      add(x[t], product(layer.attention_output, mixed));
    }
  }

  void mix_head(std::size_t h, std::size_t t, const Row& q, const std::vector<Row>& k, const std::vector<Row>& v,
                Row& mixed) const {
    const auto width = static_cast<std::size_t>(config_.head_width);
    const std::size_t group = h / static_cast<std::size_t>(config_.heads / config_.kv_heads);
    Row scores;
    for (std::size_t s = 0; s <= t; ++s) {
      double dot = 0;
      for (std::size_t e = 0; e < width; ++e) dot += q[h * width + e] * k[s][group * width + e];
      scores.push_back(dot / std::sqrt(static_cast<double>(width)));
    }
    const double largest = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    for (double& score : scores) sum += score = std::exp(score - largest);
    for (std::size_t s = 0; s <= t; ++s) {
      for (std::size_t e = 0; e < width; ++e) mixed[h * width + e] += scores[s] / sum * v[s][group * width + e];
    }
  }

  Row feed_forward(const LayerWeights& layer, const Row& m) const {
    Row gate = product(layer.gate, m);
    const Row up = product(layer.up, m);
    for (std::size_t f = 0; f < gate.size(); ++f) gate[f] = gate[f] / (1 + std::exp(-gate[f])) * up[f];
    return product(layer.down, gate);
  }

  const ModelConfig& config_;
  const ModelWeights& weights_;
  bool round_;
};

}  // namespace puna
