// SPDX-License-Identifier: Apache-2.0
// What a sampler (infer/sampler.h) reads of a row of logits instead of all of it, so that a row need not leave the device: the
// kShortlist largest, and how much there is beside them. Of row x [width]:
//   L      = the kShortlist largest numbers, of equal ones the lower ids; NaN and -infinity are never among them
//   w[v]   = exp(s[v]),   s[v] = (x[v] - max x) inverse_temperature, both operations in F32;   0 for NaN
//   rest   = sum_{v not in L} w[v], to a relative kRestError, whatever the order of the sum
//   drawn  = the first v with t < sum_{u <= v} w[u],   t = uniform sum_u w[u]; in F64
//   margin = min(t - sum_{u < drawn} w[u], sum_{u <= drawn} w[u] - t) / sum_u w[u]: who adds w in any other order draws the same
//            token where this is more than kDrawError
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/device.h"

namespace puna {

inline constexpr int kShortlist = 256;
inline constexpr double kRestError = 3e-5;  // F32 exponentials of s, rounded at a tile's largest, not at the row's
inline constexpr double kDrawError = 1e-9;  // F64 exponentials, and sums of 2^20 numbers in any order

struct RowDraw {
  double uniform = -1;            // in [0, 1); below: `drawn` is not wanted
  float inverse_temperature = 0;  // 0 or more
};

struct Shortlist {
  double rest = 0, margin = 0;
  std::int32_t count = 0, width = 0;
  std::int32_t drawn = -1;       // -1: was not wanted
  std::int32_t ids[kShortlist];  // [count] ascending
  float logits[kShortlist];      // [count]

  std::span<const std::int32_t> tokens() const { return {ids, static_cast<std::size_t>(count)}; }
  std::span<const float> values() const { return {logits, static_cast<std::size_t>(count)}; }
  // No number outside is larger.
  float border() const;
};

struct LogitColumns {
  const float* logits;               // [rows, stride]
  std::int64_t rows, stride, width;  // width: the columns that are looked at, the first ones
};
// draws [rows], found [rows]. Nothing is copied to or from the host.
void shortlist_rows(Device& device, const LogitColumns& columns, const RowDraw* draws, Shortlist* found);

// `found`, of a row's first columns, becomes the shortlist of these and the next ones, which is `next`. What was drawn is
// forgotten.
void join_shortlists(Shortlist& found, const Shortlist& next, float inverse_temperature);

}  // namespace puna
