// SPDX-License-Identifier: Apache-2.0
#include "train/merge.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <optional>
#include <span>
#include <utility>

#include "base/error.h"
#include "quant/weight_encoder.h"
#include "tensor/arena.h"

namespace puna {
namespace {

bool is_rotary(WeightRole role) { return role == WeightRole::kQuery || role == WeightRole::kKey; }

std::size_t tensor_bytes(const Tensor& weight, Format format) {
  return static_cast<std::size_t>(format_bytes(format, weight.shape.count()));
}

Format stored_format(Format base, std::optional<Format> asked) {
  const bool whole = base == Format::kF32 || base == Format::kF16 || base == Format::kBF16;
  return asked.value_or(whole ? base : Format::kBF16);
}

// merged [N, K] = W + scale B A, row by row over the threads.
void merge_matrix(const Tensor& weight, const AdapterFile::Matrix& matrix, const ModelConfig& config, ThreadPool& pool,
                  Format format, std::span<std::byte> merged) {
  const std::int64_t outputs = weight.shape[0], inputs = weight.shape[1], rank = matrix.a.shape[0];
  std::vector<float> a(static_cast<std::size_t>(rank * inputs));  // [r, K]
  for (std::int64_t r = 0; r < rank; ++r) decode_row(matrix.a, r, a.data() + r * inputs);
  const std::int64_t row_bytes = format_bytes(format, inputs);
  pool.split(outputs, 1, [&](std::int64_t begin, std::int64_t end, int) {
    std::vector<float> row(static_cast<std::size_t>(inputs)), b(static_cast<std::size_t>(rank));
    for (std::int64_t n = begin; n < end; ++n) {
      decode_row(weight, n, row.data());
      decode_row(matrix.b, file_row(matrix.slot.role, config, n), b.data());
      for (std::int64_t r = 0; r < rank; ++r) {
        const float factor = static_cast<float>(matrix.scale) * b[static_cast<std::size_t>(r)];
        const float* const source = a.data() + r * inputs;
        for (std::int64_t k = 0; k < inputs; ++k) row[static_cast<std::size_t>(k)] += factor * source[k];
      }
      info(format).encode(row.data(), merged.data() + n * row_bytes, inputs);
    }
  });
}

// What every one of the averaged checkpoints has.
struct AveragedTensor {
  std::optional<WeightSlot> slot;  // none: the reward head

  template <typename Of>
  auto& in(Of& checkpoint) const {
    return slot ? checkpoint.weights.at(slot->role, slot->layer) : checkpoint.reward_head;
  }
  bool is_rotary() const { return slot && puna::is_rotary(slot->role); }
};

std::vector<AveragedTensor> averaged_tensors(const Checkpoint& checkpoint) {
  std::vector<AveragedTensor> tensors;
  for (const WeightRoleInfo& role : weight_roles()) {
    if (role.role == WeightRole::kOutput && checkpoint.config.tied_embeddings) continue;
    for (std::int64_t layer = 0; layer < (role.per_layer ? checkpoint.config.layers : 1); ++layer)
      tensors.push_back({WeightSlot{role.role, layer}});
  }
  if (checkpoint.reward_head) tensors.push_back({});
  return tensors;
}

// averaged [N, K], in the row order of the first.
void average_rows(const std::vector<AverageShare>& shares, const AveragedTensor& tensor, ThreadPool& pool, Format format,
                  std::span<std::byte> averaged) {
  const ModelConfig& config = shares.front().checkpoint->config;
  const Shape shape = tensor.in(*shares.front().checkpoint).shape;
  const std::int64_t row_bytes = format_bytes(format, shape.row_length());
  pool.split(shape.rows(), 1, [&](std::int64_t begin, std::int64_t end, int) {
    std::vector<float> row(static_cast<std::size_t>(shape.row_length()));
    std::vector<double> sum(row.size());
    for (std::int64_t n = begin; n < end; ++n) {
      std::ranges::fill(sum, 0);
      for (const AverageShare& each : shares) {
        const RopePairing pairing = each.checkpoint->config.rope_pairing;
        const bool reorders = tensor.is_rotary() && pairing != config.rope_pairing;
        decode_row(tensor.in(*each.checkpoint), reorders ? paired_row(n, config.head_width, pairing, config.rope_pairing) : n,
                   row.data());
        for (std::size_t k = 0; k < row.size(); ++k) sum[k] += each.share * static_cast<double>(row[k]);
      }
      std::ranges::transform(sum, row.begin(), [](double value) { return static_cast<float>(value); });
      info(format).encode(row.data(), averaged.data() + n * row_bytes, shape.row_length());
    }
  });
}

bool same_shape(const ModelConfig& a, const ModelConfig& b) {
  return a.layers == b.layers && a.width == b.width && a.heads == b.heads && a.kv_heads == b.kv_heads &&
         a.head_width == b.head_width && a.feed_forward == b.feed_forward && a.vocabulary == b.vocabulary &&
         a.tied_embeddings == b.tied_embeddings;
}

// But for what formats round: GGUF holds F32.
bool about_equal(double a, double b) { return std::abs(a - b) <= 1e-5 * std::max(std::abs(a), std::abs(b)); }

// Weights mean the same only where positions and norms do.
void check_same_network(const Checkpoint& first, const Checkpoint& other) {
  if (!same_shape(first.config, other.config))
    fail(ErrorKind::kBadInput, other.where, "has another shape than {}: only models of one shape can be averaged", first.where);
  if (!std::ranges::equal(rope_frequencies(first.config), rope_frequencies(other.config), about_equal))
    fail(ErrorKind::kBadInput, other.where,
         "has other rotary frequencies than {} (theta {} and {}, or their scaling): their average would be neither", first.where,
         other.config.rope_theta, first.config.rope_theta);
  if (!about_equal(first.config.norm_eps, other.config.norm_eps))
    fail(ErrorKind::kBadInput, other.where, "has the norm_eps {}, {} has {}: their average would be neither", other.config.norm_eps,
         first.where, first.config.norm_eps);
}

}  // namespace

std::shared_ptr<Checkpoint> merge_adapter(std::shared_ptr<const Checkpoint> base, const AdapterFile& adapter,
                                          std::optional<Format> format, ThreadPool& pool) {
  auto merged = std::make_shared<Checkpoint>(*base);
  merged->kind = CheckpointKind::kMemory;
  if (!adapter.file.empty()) merged->files.push_back(adapter.file);
  if (adapter.reward_head) {
    merged->reward_head = adapter.reward_head;
    merged->owners.insert(merged->owners.end(), adapter.owners.begin(), adapter.owners.end());
  }
  check_adapter(adapter, *base);
  std::size_t bytes = 0;
  for (const AdapterFile::Matrix& matrix : adapter.matrices) {
    const Tensor& weight = base->weights.at(matrix.slot.role, matrix.slot.layer);
    bytes += Arena::padded(tensor_bytes(weight, stored_format(weight.format, format)));
  }
  const auto arena = std::make_shared<Arena>(bytes, "the merged weights");
  for (const AdapterFile::Matrix& matrix : adapter.matrices) {
    Tensor& weight = merged->weights.at(matrix.slot.role, matrix.slot.layer);
    const Format stored = stored_format(weight.format, format);
    const std::span<std::byte> memory = arena->take(tensor_bytes(weight, stored));
    merge_matrix(weight, matrix, base->config, pool, stored, memory);
    weight.format = stored;
    weight.bytes = memory;
    weight.row_scales = {};
  }
  merged->owners.push_back(arena);
  merged->owners.push_back(std::const_pointer_cast<Checkpoint>(base));
  return merged;
}

std::shared_ptr<Checkpoint> average_checkpoints(const std::vector<AverageShare>& shares, std::optional<Format> format,
                                                ThreadPool& pool) {
  PUNA_CHECK(!shares.empty(), "average", "there is nothing to average");
  const Checkpoint& first = *shares.front().checkpoint;
  const double sum =
      std::accumulate(shares.begin(), shares.end(), 0.0, [](double s, const AverageShare& e) { return s + e.share; });
  std::vector<AverageShare> parts = shares;
  for (AverageShare& each : parts) {
    if (!(each.share >= 0) || !(sum > 0) || !std::isfinite(sum))
      fail(ErrorKind::kUsage, each.checkpoint->where, "has the share {} of {}: shares are 0 or more, and not all 0", each.share,
           sum);
    if (static_cast<bool>(first.reward_head) != static_cast<bool>(each.checkpoint->reward_head))
      fail(ErrorKind::kBadInput, each.checkpoint->where, "{} a reward model, {} {}: they cannot be averaged",
           each.checkpoint->reward_head ? "is" : "is not", first.where, first.reward_head ? "is one" : "is none");
    check_same_network(first, *each.checkpoint);
    each.share /= sum;
  }
  auto averaged = std::make_shared<Checkpoint>(first);
  averaged->kind = CheckpointKind::kMemory;
  for (const AverageShare& each : std::span(shares).subspan(1))
    averaged->files.insert(averaged->files.end(), each.checkpoint->files.begin(), each.checkpoint->files.end());
  const std::vector<AveragedTensor> tensors = averaged_tensors(first);
  std::size_t bytes = 0;
  for (const AveragedTensor& tensor : tensors) {
    const Tensor& weight = tensor.in(first);
    bytes += Arena::padded(tensor_bytes(weight, stored_format(weight.format, format)));
  }
  const auto arena = std::make_shared<Arena>(bytes, "the averaged weights");
  for (const AveragedTensor& tensor : tensors) {
    Tensor& weight = tensor.in(*averaged);
    const Format stored = stored_format(weight.format, format);
    const std::span<std::byte> memory = arena->take(tensor_bytes(weight, stored));
    average_rows(parts, tensor, pool, stored, memory);
    weight.format = stored;
    weight.bytes = memory;
    weight.row_scales = {};
  }
  if (first.config.tied_embeddings) averaged->weights.output = averaged->weights.token_embedding;
  averaged->weight_bytes = static_cast<std::int64_t>(bytes);
  averaged->owners.push_back(arena);
  return averaged;
}

}  // namespace puna
