// SPDX-License-Identifier: Apache-2.0
// The whole network once more in plain double-precision loops, from the equations alone: no cache, no batch,
// none of the kernels. Only the decoding of weights is shared.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
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
      add(x, attention(layer, normed(x, layer.attention_norm)));
      add(x, feed_forward(layer, normed(x, layer.feed_forward_norm)));
    }
    return product(weights_.output, normed(x, weights_.output_norm));
  }

 private:
  static Row decoded(const Tensor& tensor, std::int64_t n) {
    std::vector<float> values(static_cast<std::size_t>(tensor.shape.row_length()));
    decode_row(tensor, n, values.data());
    return {values.begin(), values.end()};
  }

  static void add(std::vector<Row>& x, const std::vector<Row>& delta) {
    for (std::size_t t = 0; t < x.size(); ++t) {
      for (std::size_t d = 0; d < x[t].size(); ++d) x[t][d] += delta[t][d];
    }
  }

  std::vector<Row> normed(std::vector<Row> x, const Tensor& weight) const {
    const Row w = decoded(weight, 0);
    for (Row& row : x) {
      const double mean = std::inner_product(row.begin(), row.end(), row.begin(), 0.0) / static_cast<double>(row.size());
      for (std::size_t d = 0; d < row.size(); ++d) row[d] *= w[d] / std::sqrt(mean + config_.norm_eps);
    }
    return x;
  }

  Row rounded(Row x) const {
    for (std::size_t begin = 0; begin < x.size(); begin += 32) {
      double largest = 0;
      for (std::size_t i = begin; i < begin + 32; ++i) largest = std::max(largest, std::fabs(x[i]));
      const double step = largest / 127;
      for (std::size_t i = begin; i < begin + 32; ++i) x[i] = step == 0 ? 0 : step * std::nearbyint(x[i] / step);
    }
    return x;
  }

  std::vector<Row> product(const Tensor& weight, std::vector<Row> x) const {
    if (round_) std::transform(x.begin(), x.end(), x.begin(), [this](const Row& row) { return rounded(row); });
    std::vector<Row> y(x.size());
    for (std::int64_t n = 0; n < weight.shape[0]; ++n) {
      const Row w = decoded(weight, n);
      for (std::size_t t = 0; t < x.size(); ++t) y[t].push_back(std::inner_product(w.begin(), w.end(), x[t].begin(), 0.0));
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

  std::vector<Row> attention(const LayerWeights& layer, const std::vector<Row>& n) const {
    std::vector<Row> q = product(layer.query, n), k = product(layer.key, n), mixed;
    const std::vector<Row> v = product(layer.value, n);
    for (std::size_t t = 0; t < n.size(); ++t) {
      rotate(q[t], t);
      rotate(k[t], t);
      mixed.emplace_back(q[t].size());
      for (std::size_t h = 0; h < static_cast<std::size_t>(config_.heads); ++h) mix_head(h, t, q[t], k, v, mixed[t]);
    }
    return product(layer.attention_output, mixed);
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

  std::vector<Row> feed_forward(const LayerWeights& layer, const std::vector<Row>& m) const {
    std::vector<Row> gate = product(layer.gate, m);
    const std::vector<Row> up = product(layer.up, m);
    for (std::size_t t = 0; t < m.size(); ++t) {
      for (std::size_t f = 0; f < gate[t].size(); ++f) gate[t][f] = gate[t][f] / (1 + std::exp(-gate[t][f])) * up[t][f];
    }
    return product(layer.down, gate);
  }

  const ModelConfig& config_;
  const ModelWeights& weights_;
  bool round_;
};

}  // namespace puna
