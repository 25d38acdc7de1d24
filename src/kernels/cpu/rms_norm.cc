// SPDX-License-Identifier: Apache-2.0
// RMSNorm on the CPU. Squares are summed in F32 lanes over short chunks and the chunks in F64, so the mean is exact to F32 rounding
// for any width. A row belongs to one thread.
#include "kernels/rms_norm.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rms_norm.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace puna {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, 16>;
using V = hn::Vec<D>;

constexpr std::int64_t kChunk = 512;  // values whose squares are summed in F32

// x [count], count <= kChunk
HWY_INLINE float chunk_of_squares(D d, const float* x, std::int64_t count) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  V sum0 = hn::Zero(d), sum1 = hn::Zero(d), sum2 = hn::Zero(d), sum3 = hn::Zero(d);
  std::int64_t i = 0;
  for (; i + 4 * lanes <= count; i += 4 * lanes) {
    const V x0 = hn::LoadU(d, x + i), x1 = hn::LoadU(d, x + i + lanes);
    const V x2 = hn::LoadU(d, x + i + 2 * lanes), x3 = hn::LoadU(d, x + i + 3 * lanes);
    sum0 = hn::MulAdd(x0, x0, sum0);
    sum1 = hn::MulAdd(x1, x1, sum1);
    sum2 = hn::MulAdd(x2, x2, sum2);
    sum3 = hn::MulAdd(x3, x3, sum3);
  }
  float rest = 0;
  for (; i < count; ++i) rest += x[i] * x[i];
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3)))) + rest;
}

// x, y, weight [width]
void norm_row(const float* x, const float* weight, float eps, std::int64_t width, float* y) {
  const D d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  double squares = 0;
  for (std::int64_t i = 0; i < width; i += kChunk) squares += chunk_of_squares(d, x + i, std::min(kChunk, width - i));
  const auto scale = static_cast<float>(1.0 / std::sqrt(squares / static_cast<double>(width) + static_cast<double>(eps)));
  const V scales = hn::Set(d, scale);
  std::int64_t i = 0;
  for (; i + lanes <= width; i += lanes) {
    hn::StoreU(hn::Mul(hn::Mul(hn::LoadU(d, x + i), scales), hn::LoadU(d, weight + i)), d, y + i);
  }
  for (; i < width; ++i) y[i] = x[i] * scale * weight[i];
}

// x[i] += delta[i], [count]
void add(float* x, const float* delta, std::int64_t count) {
  const D d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) hn::StoreU(hn::Add(hn::LoadU(d, x + i), hn::LoadU(d, delta + i)), d, x + i);
  for (; i < count; ++i) x[i] += delta[i];
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace puna
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace puna {
namespace {
HWY_EXPORT(norm_row);
HWY_EXPORT(add);
constexpr std::int64_t kGrain = 16384;  // values worth waking a thread for
}  // namespace

void rms_norm_forward(Device& device, const float* x, const float* weight, float eps, std::int64_t rows, std::int64_t width,
                      float* y) {
  PUNA_CHECK(rows >= 0 && width > 0, "rms_norm", "shape [{}, {}]", rows, width);
  const auto kernel = HWY_DYNAMIC_DISPATCH(norm_row);
  const auto some_rows = [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t t = begin; t < end; ++t) kernel(x + t * width, weight, eps, width, y + t * width);
  };
  if (rows * width <= kGrain) return some_rows(0, rows, 0);
  device.pool.split(rows, 1, some_rows);
}

void add_forward(Device& device, float* x, const float* delta, std::int64_t rows, std::int64_t width) {
  PUNA_CHECK(rows >= 0 && width >= 0, "add", "shape [{}, {}]", rows, width);
  const auto kernel = HWY_DYNAMIC_DISPATCH(add);
  const std::int64_t count = rows * width;
  if (count <= kGrain) return kernel(x, delta, count);
  device.pool.split(count, kGrain / 4,
                    [&](std::int64_t begin, std::int64_t end, int) { kernel(x + begin, delta + begin, end - begin); });
}

}  // namespace puna
#endif
