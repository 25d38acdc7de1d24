// SPDX-License-Identifier: Apache-2.0
// Weights into fewer bits, one tensor at a time, rows split over the threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "base/thread_pool.h"
#include "model/checkpoint.h"
#include "quant/mix.h"

namespace puna {

struct QuantizeReport {
  std::int64_t bytes_in = 0, bytes_out = 0;  // of weights
  double seconds = 0;
  double bits_per_weight = 0;
  double relative_error = 0;                             // sqrt(sum (w' - w)^2 / sum w^2) over all quantized matrices
  std::vector<std::pair<Format, std::int64_t>> tensors;  // how many got which format
  std::vector<std::string> notes;                        // what could not be carried over, and why
};

// Writes a GGUF file of `type` (an .fp8 type writes a Hugging Face folder instead: GGUF has no E4M3).
// Throws kUsage when OUT exists and `overwrite` is false; Interrupted, leaving nothing, where `interrupted` comes true before all
// is written.
QuantizeReport quantize_checkpoint(ThreadPool& pool, const Checkpoint& in, const std::filesystem::path& out, const QuantType& type,
                                   bool overwrite, const std::atomic<bool>* interrupted = nullptr);

}  // namespace puna
