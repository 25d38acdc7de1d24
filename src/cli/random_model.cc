// SPDX-License-Identifier: Apache-2.0
#include "cli/random_model.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "quant/mix.h"
#include "tensor/arena.h"

namespace puna {
namespace {

constexpr std::uint64_t kSeed = 1;
constexpr std::int64_t kDistinctRows = 64;

// The same shape in another format, filled with kDistinctRows random rows repeated; the arena owns the bytes.
Tensor random_rows(const Tensor& like, Format format, Checkpoint& owner) {
  const std::int64_t width = like.shape.row_length(), rows = like.shape.rows();
  Tensor tensor = like;
  tensor.format = format;
  const auto arena = std::make_shared<Arena>(static_cast<std::size_t>(rows * tensor.row_bytes()), "random weights");
  const std::span<std::byte> bytes = arena->take(static_cast<std::size_t>(rows * tensor.row_bytes()));
  tensor.bytes = bytes;
  std::vector<float> values(static_cast<std::size_t>(width));  // [K]
  const auto row_bytes = static_cast<std::size_t>(tensor.row_bytes());
  for (std::int64_t n = 0; n < rows; ++n) {
    std::byte* row = bytes.data() + static_cast<std::size_t>(n) * row_bytes;
    if (n >= kDistinctRows) {
      std::memcpy(row, row - static_cast<std::size_t>(kDistinctRows) * row_bytes, row_bytes);
      continue;
    }
    for (std::size_t k = 0; k < values.size(); ++k) {
      values[k] = static_cast<float>(0.02 * random_normal(kSeed, static_cast<std::uint64_t>(n), k));
    }
    info(format).encode(values.data(), row, width);
  }
  owner.owners.push_back(arena);
  return tensor;
}

void give_format(Checkpoint& checkpoint, WeightRole role, std::int64_t layer, Format format) {
  Tensor& tensor = checkpoint.weights.at(role, layer);
  if (tensor.format == format) return;
  checkpoint.weight_bytes -= static_cast<std::int64_t>(tensor.bytes.size());
  tensor = random_rows(tensor, format, checkpoint);
  checkpoint.weight_bytes += static_cast<std::int64_t>(tensor.bytes.size());
}

Format format_of(std::string_view type, const ModelConfig& config, WeightRole role, std::int64_t layer) {
  if (const auto format = format_from_name(type)) return is_norm(role) ? Format::kF32 : *format;
  return mixed_format(quant_type(type), config, role, layer);
}

}  // namespace

ModelConfig shape_of_flag(std::string_view name) {
  if (const auto config = known_shape(name)) return *config;
  fail(ErrorKind::kUsage, "--shape", "'{}' is not a shape, expected 1b, 3b, 8b, 70b or 405b", name);
}

std::shared_ptr<Checkpoint> outline_model(const ModelConfig& config, std::string_view type) {
  auto checkpoint = std::make_shared<Checkpoint>();
  checkpoint->config = config;
  checkpoint->where = config.name;
  checkpoint->weights.layers.resize(static_cast<std::size_t>(config.layers));
  const auto scales =
      std::make_shared<std::vector<float>>(static_cast<std::size_t>(std::max(config.feed_forward, config.vocabulary)));
  checkpoint->owners.push_back(scales);
  for (const WeightRoleInfo& row : weight_roles()) {
    for (std::int64_t layer = 0; layer < (row.per_layer ? config.layers : 1); ++layer) {
      Tensor& tensor = checkpoint->weights.at(row.role, layer);
      tensor.name = weight_name(row.role, &WeightRoleInfo::gguf, layer);
      tensor.format = format_of(type, config, row.role, layer);
      tensor.shape = weight_shape(config, row.role);
      if (tensor.format == Format::kF8E4M3)
        tensor.row_scales = std::as_bytes(std::span(*scales)).first(static_cast<std::size_t>(tensor.shape[0]) * sizeof(float));
      if (row.role == WeightRole::kOutput && config.tied_embeddings) continue;
      checkpoint->weight_bytes +=
          format_bytes(tensor.format, tensor.shape.count()) + static_cast<std::int64_t>(tensor.row_scales.size());
    }
  }
  return checkpoint;
}

std::shared_ptr<Checkpoint> random_model(const ModelConfig& config, std::string_view type, ThreadPool& pool) {
  if (const auto format = format_from_name(type)) return random_checkpoint(config, *format, kSeed, &pool);
  const QuantType& mix = quant_type(type);
  std::shared_ptr<Checkpoint> checkpoint = random_checkpoint(config, mix.base, kSeed, &pool);
  for (const WeightRoleInfo& row : weight_roles()) {
    if (row.role == WeightRole::kOutput && config.tied_embeddings) continue;
    for (std::int64_t layer = 0; layer < (row.per_layer ? config.layers : 1); ++layer) {
      give_format(*checkpoint, row.role, layer, mixed_format(mix, config, row.role, layer));
    }
  }
  checkpoint->resident_bytes = checkpoint->weight_bytes;
  if (config.tied_embeddings) checkpoint->weights.output = checkpoint->weights.token_embedding;
  return checkpoint;
}

}  // namespace puna
