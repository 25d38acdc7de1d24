// SPDX-License-Identifier: Apache-2.0
// The k likeliest tokens and the rest on a GPU (kernels/top_k.h). A thread block has a row: it finds the k-th largest logit digit
// by digit from counts of digits, then every warp writes the ids of its run of tokens behind those of the runs before.
#include "kernels/cuda/cuda_kernels.h"

#include <algorithm>

#include "base/error.h"
#include "kernels/cuda/float_order.h"
#include "kernels/cuda/kept_tokens.h"

namespace puna::cuda {
namespace {

constexpr int kDigitBits = 11, kDigits = 1 << kDigitBits;
constexpr unsigned kAllLanes = 0xffffffffu;

// The k-th largest logit, as ordered_bits(), and how many of the tokens that have it are kept: those of the lowest ids.
struct Threshold {
  unsigned bits;
  int equal;
};

struct DigitCounts {
  int of_digit[kDigits];
  int digit, wanted;  // of the k-th largest, and which it is among those with its digits, from the largest on
};

// The digit of the one that is `wanted` from the largest on; all threads call it when all have counted.
__device__ __forceinline__ void choose_digit(DigitCounts& counts, int wanted) {
  constexpr int kEach = kDigits / kRowThreads;  // a thread has neighbouring digits, the first one the largest
  const int largest = kDigits - 1 - static_cast<int>(threadIdx.x) * kEach;
  int mine = 0;
  for (int d = 0; d < kEach; ++d) mine += counts.of_digit[largest - d];
  int above = sum_before(mine);
  if (above < wanted && wanted <= above + mine) {
    int digit = largest;
    while (above + counts.of_digit[digit] < wanted) above += counts.of_digit[digit--];
    counts.digit = digit;
    counts.wanted = wanted - above;
  }
  __syncthreads();
}

// row [V]; every thread gets the result.
template <int N>
__device__ Threshold threshold_of(const float* row, std::int64_t vocabulary, int k, DigitCounts& counts) {
  Threshold threshold{0, k};
  for (int high = 32; high > 0;) {  // bits from `high` on are known
    const int low = max(high - kDigitBits, 0);
    for (int d = static_cast<int>(threadIdx.x); d < kDigits; d += kRowThreads) counts.of_digit[d] = 0;
    __syncthreads();
    for (std::int64_t i = threadIdx.x * N; i < vocabulary; i += kRowThreads * N) {
      const auto logits = load<N>(row + i);
#pragma unroll
      for (int n = 0; n < N; ++n) {
        const unsigned bits = ordered_bits(logits.v[n]);
        if (static_cast<std::uint64_t>(bits) >> high != threshold.bits) continue;
        atomicAdd(&counts.of_digit[bits >> low & ((1u << (high - low)) - 1)], 1);
      }
    }
    __syncthreads();
    choose_digit(counts, threshold.equal);
    threshold = {threshold.bits << (high - low) | static_cast<unsigned>(counts.digit), counts.wanted};
    high = low;
  }
  return threshold;
}

// Which of N neighbouring tokens lie above the threshold and which at it, a bit each.
struct Sides {
  unsigned above = 0, equal = 0;
};
template <int N>
__device__ __forceinline__ Sides sides_of(const float* logits, const Threshold& threshold) {
  const auto pack = load<N>(logits);
  Sides sides;
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const unsigned bits = ordered_bits(pack.v[n]);
    sides.above |= static_cast<unsigned>(bits > threshold.bits) << n;
    sides.equal |= static_cast<unsigned>(bits == threshold.bits) << n;
  }
  return sides;
}

// Tokens of the lanes before this one, and of all, that have a bit; all lanes call it.
struct LaneCount {
  int before, all;
};
template <int N>
__device__ __forceinline__ LaneCount count_lanes(unsigned bits) {
  const unsigned lanes_before = (1u << threadIdx.x % 32) - 1;
  LaneCount count{0, 0};
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const unsigned lanes = __ballot_sync(kAllLanes, bits >> n & 1);
    count.before += __popc(lanes & lanes_before);
    count.all += __popc(lanes);
  }
  return count;
}

// row [V] -> ids, ascending: of all tokens above the threshold and of the first ones at it. A warp has a run of tokens.
template <int N>
__device__ void write_ids(const float* row, std::int64_t vocabulary, const Threshold& threshold, std::int32_t* ids) {
  constexpr std::int64_t kStep = 32 * N, kAllWarps = kRowThreads / 32 * kStep;
  const std::int64_t run = (vocabulary + kAllWarps - 1) / kAllWarps * kStep, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const std::int64_t begin = min(warp * run, vocabulary), end = min(begin + run, vocabulary);
  int above = 0, equal = 0;
  for (std::int64_t i = begin + lane * N; i < end; i += kStep) {
    const Sides sides = sides_of<N>(row + i, threshold);
    above += __popc(sides.above);
    equal += __popc(sides.equal);
  }
  // From here on: of all tokens before those at hand.
  above = __shfl_sync(kAllLanes, sum_before(above), 0);
  equal = __shfl_sync(kAllLanes, sum_before(equal), 0);
  for (std::int64_t first = begin; first < end; first += kStep) {
    const std::int64_t i = first + lane * N;
    const Sides sides = i < end ? sides_of<N>(row + i, threshold) : Sides{};
    if (!__any_sync(kAllLanes, (sides.above | sides.equal) != 0)) continue;
    const LaneCount of_above = count_lanes<N>(sides.above), of_equal = count_lanes<N>(sides.equal);
    int above_before = above + of_above.before, equal_before = equal + of_equal.before;
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const bool is_above = (sides.above >> n & 1) != 0, is_equal = (sides.equal >> n & 1) != 0;
      if (is_above || (is_equal && equal_before < threshold.equal))
        ids[above_before + min(equal_before, threshold.equal)] = static_cast<std::int32_t>(i + n);
      above_before += is_above;
      equal_before += is_equal;
    }
    above += of_above.all;
    equal += of_equal.all;
  }
}

// logits [R, V] -> top, whose pointers are the GPU's
template <int N>
__global__ void __launch_bounds__(kRowThreads) choose_row(const float* logits, std::int64_t vocabulary, TopKRows top) {
  __shared__ DigitCounts counts;
  __shared__ Marks marks;
  const float* const row = logits + blockIdx.x * vocabulary;
  std::int32_t* const ids = top.ids + blockIdx.x * top.k;
  write_ids<N>(row, vocabulary, threshold_of<N>(row, vocabulary, static_cast<int>(top.k), counts), ids);
  __syncthreads();  // all ids are written
  const KeptRow kept{row, vocabulary, ids, top.k};
  const Outcomes outcomes = outcomes_of(kept, rest_of<N>(kept, marks));
  float* const log_probs = top.log_probs + blockIdx.x * top.k;
  for (std::int64_t i = threadIdx.x; i < top.k; i += kRowThreads)
    log_probs[i] = static_cast<float>(static_cast<double>(row[ids[i]]) - outcomes.log_total);
  if (threadIdx.x == 0) top.rest[blockIdx.x] = static_cast<float>(outcomes.log_rest);
}

template <typename T>
void copy_to_host(GpuContext& gpu, T* to, const T* from, std::int64_t count) {
  check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(count) * sizeof(T), cudaMemcpyDeviceToHost, gpu.stream), "top_k");
}

}  // namespace

// As many rows at a time as the workspace has room for the results of.
void top_k_log_probs(Device& device, const float* logits, std::int64_t rows, std::int64_t vocabulary, const TopKRows& top) {
  GpuContext& gpu = context_of(device);
  const auto room = static_cast<std::int64_t>(gpu.workspace_bytes / sizeof(float)) / (2 * top.k + 1);
  PUNA_CHECK(room > 0 && vocabulary <= INT32_MAX, "top_k", "{} of a vocabulary of {}", top.k, vocabulary);
  const bool in_packs = vocabulary % 4 == 0 && holds_packs(logits);
  for (std::int64_t first = 0; first < rows; first += room) {
    const std::int64_t count = std::min(room, rows - first);
    auto* const log_probs = static_cast<float*>(gpu.workspace);  // [count, k]
    float* const rest = log_probs + count * top.k;               // [count]
    const TopKRows part{top.k, reinterpret_cast<std::int32_t*>(rest + count), log_probs, rest};
    launch(gpu, "top_k", in_packs ? choose_row<4> : choose_row<1>, static_cast<unsigned>(count), kRowThreads, 0, false,
           logits + first * vocabulary, vocabulary, part);
    copy_to_host(gpu, top.ids + first * top.k, part.ids, count * top.k);
    copy_to_host(gpu, top.log_probs + first * top.k, part.log_probs, count * top.k);
    copy_to_host(gpu, top.rest + first, part.rest, count);
  }
  check(cudaStreamSynchronize(gpu.stream), "top_k");
}

}  // namespace puna::cuda
