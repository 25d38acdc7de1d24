// SPDX-License-Identifier: Apache-2.0
// The network over a packed batch in plain double-precision loops, with all weights as doubles under their names, so that a test
// can move one and see what changes. Independent of every kernel: shapes come from the config, the rest from the equations.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/gradient_pass.h"
#include "model/parameters.h"
#include "model/weights.h"

namespace puna {

class PackedOracle {
 public:
  using Row = std::vector<double>;
  using Rows = std::vector<Row>;
  using Values = std::map<std::string, std::vector<double>>;  // by Hugging Face's and PEFT's names

  PackedOracle(const ModelConfig& config, double lora_scale = 0) : config_(config), lora_scale_(lora_scale) {}

  // The weights as they are computed with, decoded, and adapters.
  static Values values(const Parameters& parameters) {
    Values values;
    for (const WeightRoleInfo& row : weight_roles()) {
      for (std::int64_t layer = 0; layer < (row.per_layer ? parameters.config().layers : 1); ++layer) {
        const Tensor& tensor = parameters.weights().at(row.role, layer);
        std::vector<float> floats(static_cast<std::size_t>(tensor.shape.count()));
        for (std::int64_t n = 0; n < tensor.shape.rows(); ++n) decode_row(tensor, n, floats.data() + n * tensor.shape.row_length());
        values[weight_name(row.role, &WeightRoleInfo::hugging_face, layer)] = {floats.begin(), floats.end()};
      }
    }
    for (const Parameter& parameter : parameters.all()) {
      if (parameter.name.find("lora_") == std::string::npos) continue;
      values[parameter.name] = {parameter.value.begin(), parameter.value.end()};
    }
    return values;
  }

  // [T][D] behind the output norm.
  Rows hidden(const Values& values, const PassRows& rows) const {
    Rows x;
    const std::vector<double>& embedding = values.at("model.embed_tokens.weight");
    for (const Token token : rows.tokens) {
      const auto begin = embedding.begin() + id(token) * config_.width;
      x.emplace_back(begin, begin + config_.width);
    }
    for (std::int64_t layer = 0; layer < config_.layers; ++layer) {
      const std::string at = "model.layers." + std::to_string(layer) + ".";
      add(x, attention(values, at + "self_attn.", normed(x, values.at(at + "input_layernorm.weight")), rows));
      add(x, feed_forward(values, at + "mlp.", normed(x, values.at(at + "post_attention_layernorm.weight"))));
    }
    return normed(x, values.at("model.norm.weight"));
  }

 private:
  static void add(Rows& x, const Rows& delta) {
    for (std::size_t t = 0; t < x.size(); ++t) {
      for (std::size_t d = 0; d < x[t].size(); ++d) x[t][d] += delta[t][d];
    }
  }

  Rows normed(Rows x, const std::vector<double>& weight) const {
    for (Row& row : x) {
      double sum = 0;
      for (const double value : row) sum += value * value;
      const double r = 1 / std::sqrt(sum / static_cast<double>(row.size()) + config_.norm_eps);
      for (std::size_t d = 0; d < row.size(); ++d) row[d] *= weight[d] * r;
    }
    return x;
  }

  static Rows multiply(const std::vector<double>& weight, const Rows& x) {
    const std::size_t inputs = x[0].size(), outputs = weight.size() / inputs;
    Rows y(x.size(), Row(outputs));
    for (std::size_t t = 0; t < x.size(); ++t) {
      for (std::size_t n = 0; n < outputs; ++n) {
        for (std::size_t k = 0; k < inputs; ++k) y[t][n] += weight[n * inputs + k] * x[t][k];
      }
    }
    return y;
  }

  // W x, and (alpha / r) B (A x) where there is an adapter.
  Rows product(const Values& values, const std::string& module, const Rows& x) const {
    Rows y = multiply(values.at(module + ".weight"), x);
    const auto a = values.find("base_model.model." + module + ".lora_A.weight");
    if (a == values.end()) return y;
    Rows delta = multiply(values.at("base_model.model." + module + ".lora_B.weight"), multiply(a->second, x));
    for (Row& row : delta) {
      for (double& value : row) value *= lora_scale_;
    }
    add(y, delta);
    return y;
  }

  void rotate(Row& row, std::int32_t position) const {
    const std::vector<double> frequencies = rope_frequencies(config_);
    const auto width = static_cast<std::size_t>(config_.head_width), pairs = width / 2;
    const bool halves = config_.rope_pairing == RopePairing::kHalves;
    for (std::size_t head = 0; head < row.size(); head += width) {
      for (std::size_t p = 0; p < pairs; ++p) {
        double &a = row[head + (halves ? p : 2 * p)], &b = row[head + (halves ? p + pairs : 2 * p + 1)];
        const double c = std::cos(position * frequencies[p]), s = std::sin(position * frequencies[p]), turned = a * c - b * s;
        b = a * s + b * c;
        a = turned;
      }
    }
  }

  static bool sees(const PassRows& rows, std::int64_t t, std::int64_t s) {
    for (const PackedSegment& segment : rows.segments) {
      if (t < segment.first_row || t >= segment.first_row + segment.rows) continue;
      return (s >= segment.first_row && s <= t) || (s >= segment.prefix_row && s < segment.prefix_row + segment.prefix_rows);
    }
    return false;
  }

  Rows attention(const Values& values, const std::string& at, const Rows& n, const PassRows& rows) const {
    Rows q = product(values, at + "q_proj", n), k = product(values, at + "k_proj", n);
    const Rows v = product(values, at + "v_proj", n);
    const auto width = static_cast<std::size_t>(config_.head_width);
    const auto shared = static_cast<std::size_t>(config_.heads / config_.kv_heads);
    for (std::size_t t = 0; t < n.size(); ++t) rotate(q[t], rows.positions[t]), rotate(k[t], rows.positions[t]);
    Rows mixed(n.size(), Row(q[0].size()));
    for (std::size_t t = 0; t < n.size(); ++t) {
      for (std::size_t h = 0; h < static_cast<std::size_t>(config_.heads); ++h) {
        double sum = 0;
        for (std::size_t s = 0; s < n.size(); ++s) {
          if (!sees(rows, static_cast<std::int64_t>(t), static_cast<std::int64_t>(s))) continue;
          double dot = 0;
          for (std::size_t e = 0; e < width; ++e) dot += q[t][h * width + e] * k[s][h / shared * width + e];
          const double p = std::exp(dot / std::sqrt(static_cast<double>(width)));
          sum += p;
          for (std::size_t e = 0; e < width; ++e) mixed[t][h * width + e] += p * v[s][h / shared * width + e];
        }
        for (std::size_t e = 0; e < width; ++e) mixed[t][h * width + e] /= sum;
      }
    }
    return product(values, at + "o_proj", mixed);
  }

  Rows feed_forward(const Values& values, const std::string& at, const Rows& m) const {
    Rows gate = product(values, at + "gate_proj", m);
    const Rows up = product(values, at + "up_proj", m);
    for (std::size_t t = 0; t < m.size(); ++t) {
      for (std::size_t f = 0; f < gate[t].size(); ++f) gate[t][f] = gate[t][f] / (1 + std::exp(-gate[t][f])) * up[t][f];
    }
    return product(values, at + "down_proj", gate);
  }

  ModelConfig config_;
  double lora_scale_;  // alpha / r
};

}  // namespace puna
