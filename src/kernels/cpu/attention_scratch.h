// SPDX-License-Identifier: Apache-2.0
// Each thread's own memory for attention. It grows to the largest tile seen and stays, so a step allocates nothing after the first.
#pragma once

#include <cstdint>

namespace puna {

struct AttentionScratch {
  static constexpr std::int64_t kLanes = 16;  // of the widest vector
  std::int64_t padded_width;                  // E rounded up to whole vectors
  float* queries;                             // [M, E] scaled
  float* outputs;                             // [M, padded E] O, zero at first
  float* sums;                                // [M, kLanes] l by lane, zero at first
  float* maxima;                              // [M] m, -infinity at first
  float* keys;                                // [E, kPagePositions]
  float* values;                              // [kPagePositions, padded E]
};

// The calling thread's scratch for M = rows, valid until its next call.
AttentionScratch& attention_scratch(std::int64_t rows, std::int64_t width, std::int64_t padded_width);

}  // namespace puna
