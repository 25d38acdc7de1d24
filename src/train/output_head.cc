// SPDX-License-Identifier: Apache-2.0
// Chunk by chunk: gather, product, loss, and back. Chunks are cut by sizes alone, so sums do not depend on threads.
#include "train/output_head.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>

#include "base/error.h"
#include "kernels/collective.h"
#include "kernels/rows.h"
#include "model/rank_share.h"
#include "train/data/teacher_shard.h"

namespace puna {
namespace {

std::size_t size(std::int64_t value) { return static_cast<std::size_t>(value); }

// The most that a rank has, so that all cut the same chunks.
std::int64_t most_columns(const ModelConfig& config, int ranks) { return (config.vocabulary + ranks - 1) / ranks; }

// As many rows as the bytes of logits hold, in whole panels where there are several.
std::int64_t chunk_of(const ModelConfig& config, std::int64_t max_rows, bool on_gpu, int ranks) {
  const std::int64_t bytes = on_gpu ? OutputHead::kGpuLogitBytes : OutputHead::kLogitBytes;
  const std::int64_t rows = bytes / (most_columns(config, ranks) * static_cast<std::int64_t>(sizeof(float)));
  return std::clamp<std::int64_t>(rows >= kPanelWidth ? rows / kPanelWidth * kPanelWidth : rows, 1, max_rows);
}

std::size_t input_bytes(const ModelConfig& config, std::int64_t chunk) {
  return Arena::padded(size(chunk * config.width) * sizeof(float));
}

std::size_t logit_bytes(const ModelConfig& config, std::int64_t chunk, int ranks) {
  return Arena::padded(size(chunk * most_columns(config, ranks)) * sizeof(float));
}

// Without what distillation adds.
std::size_t arena_bytes(const ModelConfig& config, std::int64_t chunk, int ranks) {
  static_assert(sizeof(std::int32_t) == sizeof(float));
  return 2 * input_bytes(config, chunk) + logit_bytes(config, chunk, ranks) + 5 * Arena::padded(size(chunk) * sizeof(float));
}

// Of the stored teachers of a chunk's rows: one of the whole vocabulary fits.
std::int64_t kept_tokens(const ModelConfig& config, std::int64_t chunk) {
  return std::max(config.vocabulary, OutputHead::kKeptTokens * chunk);
}

// The logits' gradient, and what a stored teacher says.
std::size_t distillation_bytes(const ModelConfig& config, std::int64_t chunk) {
  return logit_bytes(config, chunk, 1) + Arena::padded(size(chunk + 1) * sizeof(std::int64_t)) +
         2 * Arena::padded(size(kept_tokens(config, chunk)) * sizeof(float)) + Arena::padded(size(chunk) * sizeof(float));
}

// Calls step(first, count) for chunks of [0, total).
template <typename Step>
void each_chunk(std::size_t total, std::int64_t chunk, Step&& step) {
  for (std::size_t first = 0; first < total; first += size(chunk)) step(first, std::min(size(chunk), total - first));
}

}  // namespace

OutputHead::OutputHead(Parameters& parameters, Device device, std::int64_t max_rows)
    : parameters_(parameters),
      device_(device),
      ranks_(device.team == nullptr ? 1 : device.team->ranks()),
      columns_(parameters.weights().output.shape[0]),
      chunk_rows_(chunk_of(parameters.config(), max_rows, device.gpu != nullptr, ranks_)),
      arena_(device.arena(arena_bytes(parameters.config(), chunk_rows_, ranks_), "the logits")),
      activations_(device, chunk_rows_, parameters.config().width) {
  const std::int64_t width = parameters.config().width;
  inputs_ = arena_.take<float>(size(chunk_rows_ * width)).data();
  dinputs_ = arena_.take<float>(size(chunk_rows_ * width)).data();
  logits_ = arena_.take<float>(size(chunk_rows_ * columns_)).data();
  rows_ = arena_.take<std::int32_t>(size(chunk_rows_));
  targets_ = arena_.take<std::int32_t>(size(chunk_rows_));
  for (std::span<float>* const numbers : {&row_weights_, &peaks_, &at_targets_}) *numbers = arena_.take<float>(size(chunk_rows_));
}

std::int64_t OutputHead::bytes(const ModelConfig& config, std::int64_t max_rows, bool distils, bool on_gpu, int ranks) {
  const std::int64_t chunk = chunk_of(config, max_rows, on_gpu, ranks);
  return static_cast<std::int64_t>(arena_bytes(config, chunk, ranks) + (distils ? distillation_bytes(config, chunk) : 0)) +
         ActivationBuffer::bytes(chunk, config.width, on_gpu);
}

void OutputHead::check(const TargetedRows& rows) const {
  PUNA_CHECK(rows.rows.size() == rows.targets.size(), "output head", "{} rows with {} targets", rows.rows.size(),
             rows.targets.size());
  const auto count = static_cast<std::int64_t>(rows.hidden.size()) / parameters_.config().width;
  for (std::size_t i = 0; i < rows.rows.size(); ++i) {
    PUNA_CHECK(rows.rows[i] >= 0 && rows.rows[i] < count, "output head", "row {} of {}", rows.rows[i], count);
    PUNA_CHECK(i == 0 || rows.rows[i - 1] < rows.rows[i], "output head", "row {} behind row {}", rows.rows[i], rows.rows[i - 1]);
    if (rows.targets[i] >= 0 && rows.targets[i] < vocabulary()) continue;
    fail(ErrorKind::kBadInput, "tokens", "target {} of row {} is outside the vocabulary: ids are 0 to {}", rows.targets[i],
         rows.rows[i], vocabulary() - 1);
  }
}

void OutputHead::project(std::span<const float> hidden, std::span<const std::int32_t> rows) {
  const std::int64_t width = parameters_.config().width;
  device_.copy_in(rows_.data(), rows.data(), rows.size_bytes());
  gather_rows(device_, hidden.data(), rows_.first(rows.size()), width, inputs_);
  Activations x = activations_.prepare(inputs_, static_cast<std::int64_t>(rows.size()), width);
  const std::array<Product, 1> products{{{&parameters_.weights().output, logits_, columns_}}};
  matmul_forward(device_, x, products);
}

TargetRows OutputHead::targets_of(std::span<const std::int32_t> targets) {
  if (ranks_ > 1) {
    own_targets_.assign(targets.begin(), targets.end());
    const std::int64_t first = first_logit(parameters_.config(), device_.rank, ranks_);
    for (std::int32_t& target : own_targets_) {
      const std::int64_t column = target - first;
      target = column >= 0 && column < columns_ ? static_cast<std::int32_t>(column) : kNotHere;
    }
    targets = own_targets_;
  }
  device_.copy_in(targets_.data(), targets.data(), targets.size_bytes());
  return {targets_.data(), static_cast<std::int64_t>(targets.size()), columns_};
}

// log p = target - M - log S with M = max_r peak_r, S = sum_r sum_r exp(peak_r - M), in the order of ranks.
void OutputHead::sum_over_columns(const TargetRows& targets, std::span<double> log_probs) {
  static_assert(sizeof(LogitSums) == 3 * sizeof(double));
  const std::size_t rows = size(targets.rows);
  const auto doubles = [](std::vector<LogitSums>& sums) {
    return std::span(reinterpret_cast<double*>(sums.data()), 3 * sums.size());
  };
  sums_.resize(rows);
  all_sums_.resize(size(ranks_) * rows);
  shares_.resize(rows);
  sum_logits(device_, logits_, targets, sums_.data());
  gather_over_ranks(device_, doubles(sums_), doubles(all_sums_));
  for (std::size_t i = 0; i < rows; ++i) {
    double peak = -std::numeric_limits<double>::infinity(), sum = 0, target = 0;
    for (std::size_t at = i; at < all_sums_.size(); at += rows) peak = std::max(peak, all_sums_[at].peak);
    for (std::size_t at = i; at < all_sums_.size(); at += rows) {
      sum += all_sums_[at].sum * std::exp(all_sums_[at].peak - peak);
      target += all_sums_[at].target;
    }
    log_probs[i] = target - peak - std::log(sum);
    shares_[i] = std::exp(sums_[i].peak - peak) / sum;
  }
}

void OutputHead::softmax_of_columns(const TargetRows& targets, std::span<const float> weights, std::span<const double> log_probs) {
  const std::size_t rows = weights.size();
  std::vector<float>& numbers = weights_;
  numbers.resize(rows);
  const auto send = [&](std::span<float> to, auto&& number) {
    for (std::size_t i = 0; i < rows; ++i) numbers[i] = static_cast<float>(number(i));
    device_.copy_in(to.data(), numbers.data(), rows * sizeof(float));
  };
  send(peaks_, [&](std::size_t i) { return sums_[i].peak; });
  send(row_weights_, [&](std::size_t i) { return static_cast<double>(weights[i]) * shares_[i]; });
  send(at_targets_, [&](std::size_t i) { return static_cast<double>(weights[i]) * std::expm1(log_probs[i]); });  // p - 1
  softmax_gradient(device_, logits_, targets, {peaks_.data(), row_weights_.data(), at_targets_.data()});
}

void OutputHead::back_project(const float* dlogits, std::int64_t rows, std::span<float> dhidden) {
  const std::int64_t width = parameters_.config().width;
  const std::array<ProductGradient, 1> products{
      {{&parameters_.weights().output, dlogits, columns_, parameters_.gradients().output}}};
  matmul_backward(device_, products, inputs_, rows, dinputs_);
  sum_over_ranks(device_, dinputs_, rows * width);
  scatter_add_rows(device_, dinputs_, rows_.first(size(rows)), width, dhidden.data());
}

void OutputHead::log_probs(const TargetedRows& rows, std::span<double> log_probs) {
  check(rows);
  each_chunk(rows.rows.size(), chunk_rows_, [&](std::size_t first, std::size_t count) {
    project(rows.hidden, rows.rows.subspan(first, count));
    const TargetRows targets = targets_of(rows.targets.subspan(first, count));
    if (ranks_ > 1) return sum_over_columns(targets, log_probs.subspan(first, count));
    target_log_probs(device_, logits_, targets, log_probs.data() + first);
  });
}

void OutputHead::backward(const TargetedRows& rows, std::span<const float> weights, std::span<float> dhidden,
                          std::span<double> log_probs) {
  check(rows);
  each_chunk(rows.rows.size(), chunk_rows_, [&](std::size_t first, std::size_t count) {
    project(rows.hidden, rows.rows.subspan(first, count));
    const TargetRows targets = targets_of(rows.targets.subspan(first, count));
    if (ranks_ > 1) {
      sum_over_columns(targets, log_probs.subspan(first, count));
      softmax_of_columns(targets, weights.subspan(first, count), log_probs.subspan(first, count));
    } else {
      device_.copy_in(row_weights_.data(), weights.data() + first, count * sizeof(float));
      cross_entropy_backward(device_, logits_, targets, row_weights_.data(), log_probs.data() + first);
    }
    back_project(logits_, static_cast<std::int64_t>(count), dhidden);
  });
}

void OutputHead::allocate_distillation() {
  if (dlogits_ != nullptr) return;
  const ModelConfig& config = parameters_.config();
  distillation_arena_ = device_.arena(distillation_bytes(config, chunk_rows_), "the logits' gradient");
  dlogits_ = distillation_arena_.take<float>(size(chunk_rows_ * vocabulary())).data();
  kept_ = {.begin = distillation_arena_.take<std::int64_t>(size(chunk_rows_ + 1)),
           .ids = distillation_arena_.take<std::int32_t>(size(kept_tokens(config, chunk_rows_))),
           .log_probs = distillation_arena_.take<float>(size(kept_tokens(config, chunk_rows_))),
           .rest = distillation_arena_.take<float>(size(chunk_rows_))};
}

void OutputHead::set_row_weights(std::span<const float> weights, double share) {
  weights_.clear();
  for (const float weight : weights) weights_.push_back(static_cast<float>(share * weight));
  device_.copy_in(row_weights_.data(), weights_.data(), weights.size_bytes());
}

template <typename Divergence>
void OutputHead::distill_chunks(const TargetedRows& rows, const Mixture& mixture, std::span<const float> weights,
                                std::span<float> dhidden, std::span<double> log_probs, const Divergence& divergence) {
  PUNA_CHECK(ranks_ == 1, "output head", "distillation on several devices");
  check(rows);
  each_chunk(rows.rows.size(), mixture.chunk, [&](std::size_t first, std::size_t count) {
    project(rows.hidden, rows.rows.subspan(first, count));
    device_.copy_within(dlogits_, logits_, count * size(vocabulary()) * sizeof(float));
    // The gradient of the second loss is added to that of the first, each with its share of the weights.
    set_row_weights(weights.subspan(first, count), 1 - mixture.ratio);
    cross_entropy_backward(device_, dlogits_, targets_of(rows.targets.subspan(first, count)), row_weights_.data(),
                           log_probs.data() + first);
    set_row_weights(weights.subspan(first, count), mixture.ratio);
    divergence(first, count);
    if (!dhidden.empty()) back_project(dlogits_, static_cast<std::int64_t>(count), dhidden);
  });
}

void OutputHead::distill(const TargetedRows& rows, const Teacher& teacher, std::span<const float> weights, std::span<float> dhidden,
                         const DistillationLosses& losses) {
  PUNA_CHECK(teacher.head.vocabulary() == vocabulary(), "output head", "a student of {} tokens with a teacher of {}", vocabulary(),
             teacher.head.vocabulary());
  PUNA_CHECK(teacher.head.device_.gpu == device_.gpu, "output head", "a teacher on another device than its student");
  allocate_distillation();
  const Mixture mixture{std::min(chunk_rows_, teacher.head.chunk_rows_), teacher.ratio};
  const auto divergence = [&](std::size_t first, std::size_t count) {
    teacher.head.project(teacher.hidden, rows.rows.subspan(first, count));
    distillation_backward(
        device_, logits_,
        {teacher.head.logits_, static_cast<std::int64_t>(count), vocabulary(), teacher.temperature, teacher.direction},
        row_weights_.data(), dlogits_, losses.divergences.data() + first);
  };
  distill_chunks(rows, mixture, weights, dhidden, losses.log_probs, divergence);
}

TopKDistillationRows OutputHead::kept_of(std::span<const TeacherRow> rows, double temperature, KlDirection direction) {
  auto& [begin, ids, log_probs, rest] = stored_;
  begin.assign(1, 0);
  rest.resize(rows.size());
  for (const TeacherRow& row : rows) begin.push_back(begin.back() + row.shard->top_k());
  ids.resize(size(begin.back()));
  log_probs.resize(size(begin.back()));
  for (std::size_t i = 0; i < rows.size(); ++i)
    rest[i] = rows[i].shard->read_row(rows[i].offset, ids.data() + begin[i], log_probs.data() + begin[i]);
  const auto copy = [&](auto to, const auto& from) {
    PUNA_CHECK(from.size() <= to.size(), "output head", "{} values of a teacher's rows, more than {}", from.size(), to.size());
    device_.copy_in(to.data(), from.data(), from.size() * sizeof(from[0]));
  };
  copy(kept_.begin, begin);
  copy(kept_.ids, ids);
  copy(kept_.log_probs, log_probs);
  copy(kept_.rest, rest);
  return {kept_.begin.data(),
          kept_.ids.data(),
          kept_.log_probs.data(),
          kept_.rest.data(),
          static_cast<std::int64_t>(rows.size()),
          vocabulary(),
          temperature,
          direction};
}

void OutputHead::distill(const TargetedRows& rows, const StoredTeacher& teacher, std::span<const float> weights,
                         std::span<float> dhidden, const DistillationLosses& losses) {
  allocate_distillation();
  std::int64_t most = 1;  // kept of a row
  for (const TeacherRow& row : teacher.rows) most = std::max(most, row.shard->top_k());
  const std::int64_t chunk = std::clamp(kept_tokens(parameters_.config(), chunk_rows_) / most, std::int64_t{1}, chunk_rows_);
  const auto divergence = [&](std::size_t first, std::size_t count) {
    top_k_distillation_backward(device_, logits_,
                                kept_of(teacher.rows.subspan(first, count), teacher.temperature, teacher.direction),
                                row_weights_.data(), dlogits_, losses.divergences.data() + first);
  };
  distill_chunks(rows, {chunk, teacher.ratio}, weights, dhidden, losses.log_probs, divergence);
}

void OutputHead::top_k(std::span<const float> hidden, std::span<const std::int32_t> rows, std::int64_t k, const TopKSink& sink) {
  PUNA_CHECK(ranks_ == 1, "output head", "the likeliest tokens on several devices");
  PUNA_CHECK(k >= 1 && k <= vocabulary(), "output head", "the {} likeliest of {} tokens", k, vocabulary());
  constexpr std::int64_t kTokenBytes = sizeof(std::int32_t) + sizeof(float);
  const std::int64_t chunk = std::clamp(kLogitBytes / (k * kTokenBytes), std::int64_t{1}, chunk_rows_);
  auto& [begin, ids, log_probs, rest] = stored_;
  ids.resize(size(chunk * k));
  log_probs.resize(size(chunk * k));
  rest.resize(size(chunk));
  const TopKRows top{k, ids.data(), log_probs.data(), rest.data()};
  each_chunk(rows.size(), chunk, [&](std::size_t first, std::size_t count) {
    const auto n = static_cast<std::int64_t>(count);
    project(hidden, rows.subspan(first, count));
    top_k_log_probs(device_, logits_, n, vocabulary(), top);
    sink(n, top);
  });
}

}  // namespace puna
