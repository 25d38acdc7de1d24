// SPDX-License-Identifier: Apache-2.0
// Small models and a folder to write them to, for the tests of quantization and conversion.
#pragma once

#include <stdlib.h>

#include <cstring>
#include <filesystem>
#include <memory>
#include <string>

#include "model/checkpoint.h"

namespace puna {

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

class TempFolder {
 public:
  TempFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "puna-quant-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

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

}  // namespace puna
