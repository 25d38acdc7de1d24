// SPDX-License-Identifier: Apache-2.0
#include "quant/weight_encoder.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "base/interrupted.h"
#include "quant/mix.h"

namespace puna {
namespace {

constexpr float kLargestE4M3 = 448;

struct SquareSums {
  double error = 0, size = 0;
};

// In eight lanes, which the compiler turns into vectors; the order of the sums is fixed.
SquareSums square_sums(const float* values, const float* encoded, std::int64_t count) {
  constexpr int kLanes = 8;
  std::array<double, kLanes> error{}, size{};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const float value = values[i + lane], difference = encoded[i + lane] - value;
      error[static_cast<std::size_t>(lane)] += static_cast<double>(difference) * difference;
      size[static_cast<std::size_t>(lane)] += static_cast<double>(value) * value;
    }
  }
  SquareSums sums;
  for (; i < count; ++i) {
    const double difference = static_cast<double>(encoded[i]) - values[i];
    sums.error += difference * difference;
    sums.size += static_cast<double>(values[i]) * values[i];
  }
  for (const double lane : error) sums.error += lane;
  for (const double lane : size) sums.size += lane;
  return sums;
}

// Divides the row by absmax / 448, the scale that is returned. A row of zeros keeps the scale 1.
float scale_row(float* values, std::int64_t count) {
  float largest = 0;
  for (std::int64_t i = 0; i < count; ++i) largest = std::max(largest, std::fabs(values[i]));
  const float scale = largest / kLargestE4M3;
  if (scale < std::numeric_limits<float>::min()) {  // zeros, or so small that the division would leave the range
    std::fill(values, values + count, 0.0f);
    return 1;
  }
  for (std::int64_t i = 0; i < count; ++i) values[i] /= scale;
  return scale;
}

}  // namespace

std::vector<WeightPlan> plan_weights(
    const Checkpoint& in, const std::function<Format(const Tensor& tensor, WeightRole role, std::int64_t layer)>& choose) {
  std::vector<WeightPlan> plan;
  const auto add = [&](WeightRole role, std::int64_t layer) {
    plan.push_back({role, layer, choose(in.weights.at(role, layer), role, layer)});
  };
  add(WeightRole::kTokenEmbedding, 0);
  for (std::int64_t layer = 0; layer < in.config.layers; ++layer) {
    for (const WeightRoleInfo& row : weight_roles()) {
      if (row.per_layer) add(row.role, layer);
    }
  }
  add(WeightRole::kOutputNorm, 0);
  if (!in.config.tied_embeddings) add(WeightRole::kOutput, 0);
  return plan;
}

std::int64_t planned_bytes(const Checkpoint& in, std::span<const WeightPlan> plan) {
  std::int64_t bytes = 0;
  for (const WeightPlan& weight : plan) {
    const Shape& shape = in.weights.at(weight.role, weight.layer).shape;
    bytes += format_bytes(weight.format, shape.count());
    if (weight.format == Format::kF8E4M3) bytes += shape.rows() * static_cast<std::int64_t>(sizeof(float));
  }
  return bytes;
}

// One weight on its way.
struct WeightEncoder::Job {
  const Tensor& tensor;
  const FormatInfo& format;
  std::int64_t head_width;  // 0 where rows keep their order
  RopePairing from, to;

  std::int64_t source_row(std::int64_t n) const { return head_width == 0 ? n : paired_row(n, head_width, from, to); }
};

WeightEncoder::WeightEncoder(ThreadPool& pool, const Checkpoint& in, RopePairing target, const char* label,
                             const std::atomic<bool>* interrupted)
    : pool_(pool),
      in_(in),
      target_(target),
      interrupted_(interrupted),
      bar_(label, static_cast<std::uint64_t>(in.weight_bytes), "bytes") {}

std::span<const std::byte> WeightEncoder::encode(const WeightPlan& plan) {
  stop_if(interrupted_);
  const Tensor& tensor = in_.weights.at(plan.role, plan.layer);
  const bool rotary = plan.role == WeightRole::kQuery || plan.role == WeightRole::kKey;
  const bool reorders = rotary && in_.config.rope_pairing != target_;
  const Job job{tensor, info(plan.format), reorders ? in_.config.head_width : 0, in_.config.rope_pairing, target_};
  bar_.advance(tensor.bytes.size() + tensor.row_scales.size());
  if (plan.format == tensor.format && !reorders) {
    scales_ = tensor.row_scales;
    return tensor.bytes;
  }
  bytes_.resize(static_cast<std::size_t>(format_bytes(plan.format, tensor.shape.count())));
  scale_values_.assign(plan.format == Format::kF8E4M3 ? static_cast<std::size_t>(tensor.shape.rows()) : 0, 1.0f);
  plan.format == tensor.format ? copy_rows(job) : encode_rows(job);
  scales_ = std::as_bytes(std::span(scale_values_));
  return bytes_;
}

void WeightEncoder::copy_rows(const Job& job) {
  const std::size_t row_bytes = static_cast<std::size_t>(job.tensor.row_bytes());
  pool_.split(job.tensor.shape.rows(), 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t n = begin; n < end; ++n) {
      stop_if(interrupted_);
      const std::int64_t source = job.source_row(n);
      std::memcpy(bytes_.data() + static_cast<std::size_t>(n) * row_bytes, job.tensor.row(source), row_bytes);
      if (!scale_values_.empty()) scale_values_[static_cast<std::size_t>(n)] = job.tensor.row_scale(source);
    }
  });
}

void WeightEncoder::encode_rows(const Job& job) {
  const std::int64_t rows = job.tensor.shape.rows(), length = job.tensor.shape.row_length();
  const std::size_t row_bytes = static_cast<std::size_t>(format_bytes(job.format.format, length));
  row_error_.assign(static_cast<std::size_t>(rows), 0.0);
  row_size_.assign(static_cast<std::size_t>(rows), 0.0);
  pool_.split(rows, 1, [&](std::int64_t begin, std::int64_t end, int) {
    std::vector<float> values(static_cast<std::size_t>(length)), encoded(values.size());  // [K]
    for (std::int64_t n = begin; n < end; ++n) {
      stop_if(interrupted_);
      const std::size_t at = static_cast<std::size_t>(n);
      std::byte* out = bytes_.data() + at * row_bytes;
      decode_row(job.tensor, job.source_row(n), values.data());
      if (!scale_values_.empty()) {
        encoded = values;
        scale_values_[at] = scale_row(encoded.data(), length);
        job.format.encode(encoded.data(), out, length);
      } else {
        job.format.encode(values.data(), out, length);
      }
      job.format.decode(out, encoded.data(), length);
      if (!scale_values_.empty()) {
        for (float& value : encoded) value *= scale_values_[at];
      }
      const SquareSums sums = square_sums(values.data(), encoded.data(), length);
      row_error_[at] = sums.error;
      row_size_[at] = sums.size;
    }
  });
  check_finite(job.tensor, job.format.format);
  if (job.tensor.shape.rank() < 2) return;
  for (std::size_t n = 0; n < row_error_.size(); ++n) {
    error_ += row_error_[n];
    size_ += row_size_[n];
  }
}

void WeightEncoder::check_finite(const Tensor& tensor, Format format) const {
  for (std::size_t n = 0; n < row_error_.size(); ++n) {
    if (std::isfinite(row_error_[n])) continue;
    if (!std::isfinite(row_size_[n])) {
      fail(ErrorKind::kBadInput, in_.where, "tensor {} holds NaN or infinity in row {}: the file is damaged", tensor.name, n);
    }
    fail(ErrorKind::kUnsupported, in_.where, "row {} of tensor {} has values beyond the range of {}: choose a wider format", n,
         tensor.name, info(format).name);
  }
}

double WeightEncoder::relative_error() const { return size_ > 0 ? std::sqrt(error_ / size_) : 0; }

}  // namespace puna
