// SPDX-License-Identifier: Apache-2.0
// Rotary positions on the CPU. The table is made once per batch and shared by all layers and heads.
#include "kernels/rope.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rope.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace puna {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, 16>;
using V = hn::Vec<D>;

struct Pair {
  V a, b;
};

// Turns the pair by the angles whose cosines and sines lie at table [lanes, 2]; kSign -1 turns it back.
template <int kSign>
HWY_INLINE Pair turn(D d, Pair x, const float* table) {
  V cosine, sine;
  hn::LoadInterleaved2(d, table, cosine, sine);
  if constexpr (kSign < 0) sine = hn::Neg(sine);
  return {hn::MulSub(x.a, cosine, hn::Mul(x.b, sine)), hn::MulAdd(x.a, sine, hn::Mul(x.b, cosine))};
}

// x [2 pairs] as neighbours (2p, 2p + 1), table [pairs, 2]
template <int kSign>
void turn_neighbours_by(float* x, const float* table, std::int64_t pairs) {
  const D d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t p = 0;
  for (; p + lanes <= pairs; p += lanes) {
    Pair pair;
    hn::LoadInterleaved2(d, x + 2 * p, pair.a, pair.b);
    pair = turn<kSign>(d, pair, table + 2 * p);
    hn::StoreInterleaved2(pair.a, pair.b, d, x + 2 * p);
  }
  for (; p < pairs; ++p) {
    const float a = x[2 * p], b = x[2 * p + 1], cosine = table[2 * p], sine = kSign * table[2 * p + 1];
    x[2 * p] = a * cosine - b * sine;
    x[2 * p + 1] = a * sine + b * cosine;
  }
}

// x [2 pairs] as halves (p, p + pairs), table [pairs, 2]
template <int kSign>
void turn_halves_by(float* x, const float* table, std::int64_t pairs) {
  const D d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  float* const y = x + pairs;
  std::int64_t p = 0;
  for (; p + lanes <= pairs; p += lanes) {
    const Pair pair = turn<kSign>(d, {hn::LoadU(d, x + p), hn::LoadU(d, y + p)}, table + 2 * p);
    hn::StoreU(pair.a, d, x + p);
    hn::StoreU(pair.b, d, y + p);
  }
  for (; p < pairs; ++p) {
    const float a = x[p], b = y[p], cosine = table[2 * p], sine = kSign * table[2 * p + 1];
    x[p] = a * cosine - b * sine;
    y[p] = a * sine + b * cosine;
  }
}

void turn_neighbours(float* x, const float* table, std::int64_t pairs) { turn_neighbours_by<1>(x, table, pairs); }
void turn_halves(float* x, const float* table, std::int64_t pairs) { turn_halves_by<1>(x, table, pairs); }
void turn_neighbours_back(float* x, const float* table, std::int64_t pairs) { turn_neighbours_by<-1>(x, table, pairs); }
void turn_halves_back(float* x, const float* table, std::int64_t pairs) { turn_halves_by<-1>(x, table, pairs); }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace puna
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace puna {
namespace {
HWY_EXPORT(turn_neighbours);
HWY_EXPORT(turn_halves);
HWY_EXPORT(turn_neighbours_back);
HWY_EXPORT(turn_halves_back);
constexpr std::int64_t kGrain = 16384;     // values worth waking a thread for
constexpr std::int64_t kTableGrain = 256;  // angles worth waking a thread for

// One head: x [E], table [E / 2, 2].
using Turn = void (*)(float* x, const float* table, std::int64_t pairs);

void turn_rows(Device& device, const RopeRows& rows, const float* table, Turn kernel) {
  const std::int64_t pairs = rows.width / 2;
  const auto some_rows = [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t t = begin; t < end; ++t) {
      for (std::int64_t h = 0; h < rows.heads; ++h)
        kernel(rows.x + t * rows.stride + h * rows.width, table + t * rows.width, pairs);
    }
  };
  if (rows.rows * rows.heads * rows.width <= kGrain) return some_rows(0, rows.rows, 0);
  device.pool.split(rows.rows, 1, some_rows);
}

}  // namespace

namespace cpu {

void rope_table(Device& device, std::span<const double> frequencies, std::span<const std::int32_t> positions, float* table) {
  const auto pairs = static_cast<std::int64_t>(frequencies.size());
  const auto rows = static_cast<std::int64_t>(positions.size());
  const auto some_rows = [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t t = begin; t < end; ++t) {
      float* const row = table + t * pairs * 2;  // [E / 2, 2]
      for (std::int64_t p = 0; p < pairs; ++p) {
        const double angle = positions[static_cast<std::size_t>(t)] * frequencies[static_cast<std::size_t>(p)];
        row[2 * p] = static_cast<float>(std::cos(angle));
        row[2 * p + 1] = static_cast<float>(std::sin(angle));
      }
    }
  };
  if (rows * pairs <= kTableGrain) return some_rows(0, rows, 0);
  device.pool.split(rows, 1, some_rows);
}

void rope_forward(Device& device, const RopeRows& rows, const float* table, RopePairing pairing) {
  turn_rows(device, rows, table,
            pairing == RopePairing::kHalves ? HWY_DYNAMIC_DISPATCH(turn_halves) : HWY_DYNAMIC_DISPATCH(turn_neighbours));
}

void rope_backward(Device& device, const RopeRows& rows, const float* table, RopePairing pairing) {
  turn_rows(device, rows, table,
            pairing == RopePairing::kHalves ? HWY_DYNAMIC_DISPATCH(turn_halves_back) : HWY_DYNAMIC_DISPATCH(turn_neighbours_back));
}

}  // namespace cpu
}  // namespace puna
#endif
