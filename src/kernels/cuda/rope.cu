// SPDX-License-Identifier: Apache-2.0
// Rotary positions on a GPU. The table is made in F64, an angle to a thread. Of the rows each thread turns one pair, or where all
// pointers and widths allow it two neighbouring pairs (kNeighbours: 16 bytes) or four (kHalves: 16 bytes of each half).
#include "kernels/cuda/cuda_kernels.h"

#include "base/error.h"
#include "kernels/cuda/elementwise.h"

namespace puna::cuda {
namespace {

constexpr int kThreads = 256;

// table [T, pairs, 2]
__global__ void __launch_bounds__(kThreads)
    make_table(const double* frequencies, int pairs, const std::int32_t* positions, std::int64_t rows, float* table) {
  wait_for_previous_kernel();
  allow_next_kernel();
  const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x, row = i / pairs;
  if (row >= rows) return;
  double sine, cosine;
  sincos(positions[row] * frequencies[i - row * pairs], &sine, &cosine);
  table[2 * i] = static_cast<float>(cosine);
  table[2 * i + 1] = static_cast<float>(sine);
}

__device__ __forceinline__ void turn(float& a, float& b, float cosine, float sine) {
  const float old = a;
  a = old * cosine - b * sine;
  b = old * sine + b * cosine;
}

// blockIdx.x: the row; threads of blockIdx.y count the units of kPairs pairs in all heads. sign -1 turns back.
template <RopePairing kPairing, int kPairs>
__global__ void __launch_bounds__(kThreads) turn_pairs(RopeRows rows, const float* table, float sign) {
  wait_for_previous_kernel();
  allow_next_kernel();
  const int unit = static_cast<int>(blockIdx.y) * kThreads + static_cast<int>(threadIdx.x);
  const int pairs = static_cast<int>(rows.width) / 2, units = pairs / kPairs;  // of a head
  const int head = unit / units, pair = unit % units * kPairs;
  if (head >= rows.heads) return;
  float* const x = rows.x + static_cast<std::int64_t>(blockIdx.x) * rows.stride + head * rows.width;  // [E]
  const float* const angles = table + static_cast<std::int64_t>(blockIdx.x) * rows.width + 2 * pair;  // [kPairs, 2]
  float turns[2 * kPairs];
#pragma unroll
  for (int i = 0; i < 2 * kPairs; i += 4) {
    const auto some = load<4>(angles + i);
#pragma unroll
    for (int n = 0; n < 4; ++n) turns[i + n] = some.v[n];
  }
  if constexpr (kPairing == RopePairing::kNeighbours) {
    auto values = load<2 * kPairs>(x + 2 * pair);
#pragma unroll
    for (int n = 0; n < kPairs; ++n) turn(values.v[2 * n], values.v[2 * n + 1], turns[2 * n], sign * turns[2 * n + 1]);
    store(x + 2 * pair, values);
  } else {
    auto firsts = load<kPairs>(x + pair), seconds = load<kPairs>(x + pairs + pair);
#pragma unroll
    for (int n = 0; n < kPairs; ++n) turn(firsts.v[n], seconds.v[n], turns[2 * n], sign * turns[2 * n + 1]);
    store(x + pair, firsts);
    store(x + pairs + pair, seconds);
  }
}

// Any alignment: number by number.
template <RopePairing kPairing>
__global__ void __launch_bounds__(kThreads) turn_single_pairs(RopeRows rows, const float* table, float sign) {
  wait_for_previous_kernel();
  allow_next_kernel();
  const int pairs = static_cast<int>(rows.width) / 2;
  const int unit = static_cast<int>(blockIdx.y) * kThreads + static_cast<int>(threadIdx.x), head = unit / pairs,
            pair = unit % pairs;
  if (head >= rows.heads) return;
  float* const x = rows.x + static_cast<std::int64_t>(blockIdx.x) * rows.stride + head * rows.width;  // [E]
  const float* const angle = table + static_cast<std::int64_t>(blockIdx.x) * rows.width + 2 * pair;   // [2]
  constexpr bool kHalves = kPairing == RopePairing::kHalves;
  turn(x[kHalves ? pair : 2 * pair], x[kHalves ? pairs + pair : 2 * pair + 1], angle[0], sign * angle[1]);
}

void turn_rows(Device& device, const RopeRows& rows, const float* table, RopePairing pairing, float sign) {
  PUNA_CHECK(rows.rows >= 0 && rows.width > 0 && rows.width % 2 == 0 && rows.heads * rows.width <= rows.stride, "rope",
             "{} heads of width {} in rows {} apart; the width must be even and the heads fit the row", rows.heads, rows.width,
             rows.stride);
  if (rows.rows == 0 || rows.heads == 0) return;
  const bool halves = pairing == RopePairing::kHalves;
  const int together = halves ? 4 : 2;
  const bool in_packs = rows.width % (2 * together) == 0 && rows.stride % 4 == 0 && holds_packs(rows.x, table);
  const auto kernel = in_packs ? (halves ? turn_pairs<RopePairing::kHalves, 4> : turn_pairs<RopePairing::kNeighbours, 2>)
                               : (halves ? turn_single_pairs<RopePairing::kHalves> : turn_single_pairs<RopePairing::kNeighbours>);
  const std::int64_t units = rows.heads * (rows.width / 2) / (in_packs ? together : 1);
  launch(context_of(device), "rope", kernel, dim3(static_cast<unsigned>(rows.rows), blocks_for(units, kThreads)), kThreads, 0, true,
         rows, table, sign);
}

}  // namespace

void rope_table(Device& device, std::span<const double> frequencies, std::span<const std::int32_t> positions, float* table) {
  if (frequencies.empty() || positions.empty()) return;
  const auto pairs = static_cast<int>(frequencies.size());
  const auto rows = static_cast<std::int64_t>(positions.size());
  launch(context_of(device), "rope_table", make_table, blocks_for(rows * pairs, kThreads), kThreads, 0, true, frequencies.data(),
         pairs, positions.data(), rows, table);
}

void rope_forward(Device& device, const RopeRows& rows, const float* table, RopePairing pairing) {
  turn_rows(device, rows, table, pairing, 1.0f);
}

void rope_backward(Device& device, const RopeRows& rows, const float* table, RopePairing pairing) {
  turn_rows(device, rows, table, pairing, -1.0f);
}

}  // namespace puna::cuda
