// SPDX-License-Identifier: Apache-2.0
// One weight after the other as another file wants it: in another format, its query and key rows in the other rotary order.
// A weight that needs neither is handed on in place. Rows are split over the threads; what each does depends on the row alone, so
// the bytes and the error are the same for any number of threads.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/progress.h"
#include "base/thread_pool.h"
#include "model/checkpoint.h"

namespace puna {

struct WeightPlan {
  WeightRole role = WeightRole::kTokenEmbedding;
  std::int64_t layer = 0;
  Format format = Format::kF32;  // that it is to have
};

// Every weight the checkpoint stores (a tied output is not one), in the order of weight_roles() within a layer, layer by layer,
// with the output norm and the output last. `choose` gives each its format.
std::vector<WeightPlan> plan_weights(
    const Checkpoint& in, const std::function<Format(const Tensor& tensor, WeightRole role, std::int64_t layer)>& choose);

// Bytes of the planned weights, row scales included.
std::int64_t planned_bytes(const Checkpoint& in, std::span<const WeightPlan> plan);

class WeightEncoder {
 public:
  // `target` is the pairing of the file to be written; `label` stands before the progress bar. Where `interrupted` comes true,
  // encode() throws Interrupted, between two rows.
  WeightEncoder(ThreadPool& pool, const Checkpoint& in, RopePairing target, const char* label,
                const std::atomic<bool>* interrupted = nullptr);

  // The weight's bytes in its planned format, valid until the next call. Throws kUnsupported where a finite value of the source is
  // beyond the range of the format.
  std::span<const std::byte> encode(const WeightPlan& plan);
  // The F32 row scales [N] of the last weight, where it is F8E4M3.
  std::span<const std::byte> row_scales() const { return scales_; }

  // sqrt(sum (w' - w)^2 / sum w^2) over the matrices that changed their format; 0 where none did.
  double relative_error() const;

 private:
  struct Job;
  void copy_rows(const Job& job);
  void encode_rows(const Job& job);
  void check_finite(const Tensor& tensor, Format format) const;

  ThreadPool& pool_;
  const Checkpoint& in_;
  RopePairing target_;
  const std::atomic<bool>* interrupted_;
  ProgressBar bar_;
  std::vector<std::byte> bytes_;
  std::vector<float> scale_values_;  // [N]
  std::span<const std::byte> scales_;
  std::vector<double> row_error_, row_size_;  // [N] sums of squares
  double error_ = 0, size_ = 0;
};

}  // namespace puna
