// SPDX-License-Identifier: Apache-2.0
// A row of logits of which some tokens K are kept, as a thread block sees it: which tokens are the rest, what the rest sums to, and
// the outcomes of kernels/top_k.h. Ids of K lie in the GPU's memory; as a row is read, the block marks a tile of them after the
// other in shared memory.
#pragma once

#include <cstdint>

#include "kernels/cuda/row_sum.h"

namespace puna::cuda {

struct KeptRow {
  const float* logits;      // [V]
  std::int64_t vocabulary;  // V
  const std::int32_t* ids;  // [count] ascending
  std::int64_t count;
};

inline constexpr int kMarkedTokens = 1 << 16;  // in a tile
struct Marks {
  unsigned bits[kMarkedTokens / 32];
};

// The block's marks of the tokens from `first` on; all threads call it, and the marks are there when it returns.
__device__ __forceinline__ void mark_kept(const KeptRow& row, std::int64_t first, Marks& marks) {
  __syncthreads();  // an earlier tile has been read by all
  for (int word = static_cast<int>(threadIdx.x); word < kMarkedTokens / 32; word += kRowThreads) marks.bits[word] = 0;
  __syncthreads();
  for (std::int64_t i = threadIdx.x; i < row.count; i += kRowThreads) {
    const std::int64_t at = row.ids[i] - first;
    if (at >= 0 && at < kMarkedTokens) atomicOr(&marks.bits[at / 32], 1u << at % 32);
  }
  __syncthreads();
}

// body(i, kept) for every N tokens from i on; bit n of kept: token i + n is in K. Neighbours go to neighbouring threads.
template <int N, typename Body>
__device__ __forceinline__ void each_token(const KeptRow& row, Marks& marks, const Body& body) {
  for (std::int64_t first = 0; first < row.vocabulary; first += kMarkedTokens) {
    mark_kept(row, first, marks);
    const auto count = static_cast<int>(min(row.vocabulary - first, std::int64_t{kMarkedTokens}));
    for (int i = static_cast<int>(threadIdx.x) * N; i < count; i += kRowThreads * N)
      body(first + i, marks.bits[i / 32] >> i % 32 & ((1u << N) - 1));
  }
}

// Of the tokens that are not in K; every thread gets it.
template <int N>
__device__ RowSum rest_of(const KeptRow& row, Marks& marks) {
  RowSum of_thread;
  each_token<N>(row, marks, [&](std::int64_t i, unsigned kept) {
    auto logits = load<N>(row.logits + i);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      if ((kept >> n & 1) != 0) logits.v[n] = -INFINITY;
    }
    of_thread.add(logits, 1.0f);
  });
  return over_block(of_thread, 1.0f);
}

// The outcomes as log-probabilities: a kept token's is its logit - log_total.
struct Outcomes {
  double log_total, log_rest;
};

// Every thread gets them.
__device__ __forceinline__ Outcomes outcomes_of(const KeptRow& row, const RowSum& rest) {
  RowSum kept;
  for (std::int64_t i = threadIdx.x; i < row.count; i += kRowThreads) kept.add(load<1>(row.logits + row.ids[i]), 1.0f);
  kept = over_block(kept, 1.0f);
  const double peak = static_cast<double>(fmaxf(kept.peak, rest.peak));
  const double log_total = peak + log(kept.relative_to(peak, 1.0f) + rest.relative_to(peak, 1.0f));
  return {log_total, rest.sum == 0 ? -INFINITY : static_cast<double>(rest.peak) + log(rest.sum) - log_total};
}

}  // namespace puna::cuda
