// SPDX-License-Identifier: Apache-2.0
// What a run will hold in memory, known before anything large is allocated. Printed by `puna show` and before long contexts;
// refuses with the figures, and with what would fit, when it is more than the machine has.
#pragma once

#include <cstdint>
#include <string>

#include "model/config.h"
#include "tensor/format.h"

namespace puna {

struct MemoryPlan {
  std::int64_t weights = 0, kv = 0, activations = 0, logits = 0;  // bytes
  std::int64_t available = 0;                                     // bytes free for this process (control group respected)
  std::int64_t context = 0;                                       // positions planned
  std::int64_t largest_context = 0;                               // that would fit with the same formats
  std::int64_t total() const { return weights + kv + activations + logits; }
  bool fits() const { return total() <= available; }
  std::string text() const;                                       // a small table
};

struct RunShape {
  Format kv_format = Format::kF16;
  std::int64_t context = 0;      // positions of KV over all sequences
  std::int64_t rows = 512;       // rows of the largest batch (prefill chunk)
  std::int64_t logit_rows = 1;   // rows of logits kept at once
};

MemoryPlan plan_memory(const ModelConfig& config, std::int64_t weight_bytes, const RunShape& run);
// Throws kNoRoom with the plan and what would fit.
void check_fits(const MemoryPlan& plan, const std::string& where);
std::int64_t available_memory();

}  // namespace puna
