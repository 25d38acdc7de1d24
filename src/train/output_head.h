// SPDX-License-Identifier: Apache-2.0
// The output product with the losses behind it, in chunks of rows: logits of a whole batch never exist, only 32 MB of them, on a
// GPU 1 GB; in distillation as much again for their gradient, and the teacher's.
//   logits[i] = Wout hidden[rows[i]],   log_probs[i] = logits[i, targets[i]] - log sum_v exp(logits[i, v])
// Rows that count for nothing are left out by the caller. Nothing is computed for an output matrix that is frozen.
// A rank of a team has V_r rows of Wout, and so of every row of logits V_r columns; all ranks call the same functions with the same
// rows together. They tell each other the largest logit, the sum of exponentials and the target's logit of every row, from which
// all have the same log_probs; dhidden is summed over them. Logits stay where they are, and there are as many bytes of them on each
// rank as on one device, N times as many rows.
// hidden and dhidden are the device's memory; rows, targets, weights and results the host's. A teacher's head is on the same
// device; distillation is on one only.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "kernels/cross_entropy.h"
#include "kernels/device.h"
#include "kernels/matmul.h"
#include "kernels/top_k.h"
#include "model/parameters.h"
#include "tensor/arena.h"
#include "train/batch.h"

namespace puna {

// N of the rows of a batch and the token each should predict.
struct TargetedRows {
  std::span<const float> hidden;          // [T, D]
  std::span<const std::int32_t> rows;     // [N] ascending, none twice
  std::span<const std::int32_t> targets;  // [N]
};

class OutputHead {
 public:
  static constexpr std::int64_t kLogitBytes = std::int64_t{32} << 20, kGpuLogitBytes = std::int64_t{1} << 30;
  // What is kept of a stored teacher's rows in the device's memory, on average; rows with more come fewer at a time.
  static constexpr std::int64_t kKeptTokens = 256;

  // `parameters` must outlive it. max_rows: no chunk is larger.
  OutputHead(Parameters& parameters, Device device, std::int64_t max_rows);

  // -> log_probs [N]
  void log_probs(const TargetedRows& rows, std::span<double> log_probs);

  // The gradient of -sum_i weights[i] log_probs[i]: added to dhidden [T, D] and to the output matrix's. -> log_probs [N]
  void backward(const TargetedRows& rows, std::span<const float> weights, std::span<float> dhidden, std::span<double> log_probs);

  // The gradient of sum_i weights[i] ((1 - ratio) (-log_probs[i]) + ratio divergences[i]) against a teacher with the same
  // vocabulary; kernels/cross_entropy.h has the divergences. An empty dhidden: no gradients, only the figures.
  struct Teacher {
    OutputHead& head;
    std::span<const float> hidden;  // [T, teacher's D] of the same batch
    double ratio, temperature;
    KlDirection direction;
  };
  struct DistillationLosses {
    std::span<double> log_probs, divergences;  // [N]
  };
  void distill(const TargetedRows& rows, const Teacher& teacher, std::span<const float> weights, std::span<float> dhidden,
               const DistillationLosses& losses);

  // The same against what a teacher said earlier of these rows (kernels/top_k.h has the divergences).
  struct StoredTeacher {
    std::span<const TeacherRow> rows;  // [N]
    double ratio, temperature;
    KlDirection direction;
  };
  void distill(const TargetedRows& rows, const StoredTeacher& teacher, std::span<const float> weights, std::span<float> dhidden,
               const DistillationLosses& losses);

  // The k likeliest tokens of rows [N] ascending, some rows at a time: sink(how many, top), the host's memory.
  using TopKSink = std::function<void(std::int64_t rows, const TopKRows& top)>;
  void top_k(std::span<const float> hidden, std::span<const std::int32_t> rows, std::int64_t k, const TopKSink& sink);

  std::int64_t vocabulary() const { return parameters_.config().vocabulary; }
  // Bytes the constructor allocates, and with `distils` what the first distill() adds.
  static std::int64_t bytes(const ModelConfig& config, std::int64_t max_rows, bool distils = false, bool on_gpu = false,
                            int ranks = 1);

 private:
  struct Mixture {  // of a chunk's two losses
    std::int64_t chunk;
    double ratio;
  };
  // divergence(first, count) adds the gradient of sum_i row_weights_[i] divergences[first + i] to dlogits_ [count, V].
  template <typename Divergence>
  void distill_chunks(const TargetedRows& rows, const Mixture& mixture, std::span<const float> weights, std::span<float> dhidden,
                      std::span<double> log_probs, const Divergence& divergence);

  // Room for distillation, at its first time.
  void allocate_distillation();
  // The chunk's weights [count] in row_weights_, each times `share`.
  void set_row_weights(std::span<const float> weights, double share);
  // What the teacher said of the chunk's rows, on the device.
  TopKDistillationRows kept_of(std::span<const TeacherRow> rows, double temperature, KlDirection direction);
  // Of a chunk: gathers its hidden rows into inputs_ -> logits_ [rows, V_r].
  void project(std::span<const float> hidden, std::span<const std::int32_t> rows);
  // The chunk's targets [rows] on the device, as columns of this rank.
  TargetRows targets_of(std::span<const std::int32_t> targets);
  // Of a chunk over all ranks: -> log_probs [rows], and in shares_ what its exponentials are of each row's sum.
  void sum_over_columns(const TargetRows& targets, std::span<double> log_probs);
  // The gradient of a chunk of one of several ranks, in place of its logits.
  void softmax_of_columns(const TargetRows& targets, std::span<const float> weights, std::span<const double> log_probs);
  // dlogits [rows, V_r] of the chunk project() has seen last, on to dhidden and the output matrix.
  void back_project(const float* dlogits, std::int64_t rows, std::span<float> dhidden);
  void check(const TargetedRows& rows) const;

  Parameters& parameters_;
  Device device_;
  int ranks_;
  std::int64_t columns_;     // V_r
  std::int64_t chunk_rows_;  // C
  Arena arena_;
  Arena distillation_arena_;
  float* inputs_;                           // [C, D]
  float* dinputs_;                          // [C, D]
  float* logits_;                           // [C, V_r]
  float* dlogits_ = nullptr;                // [C, V]; nullptr before the first distill()
  std::span<std::int32_t> rows_, targets_;  // [C]
  std::span<float> row_weights_;            // [C]
  std::span<float> peaks_, at_targets_;     // [C] of several ranks
  std::vector<std::int32_t> own_targets_;   // [C]
  std::vector<LogitSums> sums_, all_sums_;  // [C], [N, C]
  std::vector<double> shares_;              // [C]
  ActivationBuffer activations_;
  std::vector<float> weights_;  // [C] on their way to row_weights_
  struct Stored {               // of a chunk, as kernels/top_k.h has it, in the host's memory
    std::vector<std::int64_t> begin;
    std::vector<std::int32_t> ids;
    std::vector<float> log_probs, rest;
  } stored_;
  struct Kept {  // the same in the device's; empty before the first distill()
    std::span<std::int64_t> begin;
    std::span<std::int32_t> ids;
    std::span<float> log_probs, rest;
  } kept_;
};

}  // namespace puna
