// SPDX-License-Identifier: Apache-2.0
// RMSNorm on the CPU. Squares are summed in F32 lanes over short chunks and the chunks in F64, so the mean is exact to F32 rounding
// for any width. A row belongs to one thread.
#include "kernels/rms_norm.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rms_norm.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/by_vectors_inl.h"

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

// sum_i weight[i] dy[i] x[i], [count], count <= kChunk
HWY_INLINE float chunk_of_products(const float* x, const float* weight, const float* dy, std::int64_t count) {
  const D d;
  V even = hn::Zero(d), odd = hn::Zero(d);
  by_vectors(count, [&](std::int64_t i, auto part) {
    const V previous = even;  // the two take turns
    even = odd;
    odd = hn::MulAdd(hn::Mul(part.load(weight + i), part.load(dy + i)), part.load(x + i), previous);
  });
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(even, odd)));
}

// Rows [begin, end): adds to dx, and to dweight [D] their sum where it is wanted.
void norm_gradient(const RmsNormGradient& gradient, std::int64_t begin, std::int64_t end, std::int64_t width, float* dweight) {
  const D d;
  const auto mean_of = [&](double sum) { return sum / static_cast<double>(width); };
  for (std::int64_t t = begin; t < end; ++t) {
    const float* const x = gradient.x + t * width;
    const float* const dy = gradient.dy + t * width;
    float* const dx = gradient.dx + t * width;
    double squares = 0, products = 0;
    for (std::int64_t i = 0; i < width; i += kChunk) {
      const std::int64_t count = std::min(kChunk, width - i);
      squares += chunk_of_squares(d, x + i, count);
      products += chunk_of_products(x + i, gradient.weight + i, dy + i, count);
    }
    const double r = 1.0 / std::sqrt(mean_of(squares) + static_cast<double>(gradient.eps));
    const V scale = hn::Set(d, static_cast<float>(r)), pull = hn::Set(d, static_cast<float>(r * r * mean_of(products)));
    by_vectors(width, [&](std::int64_t i, auto part) {
      const V xs = part.load(x + i), dys = part.load(dy + i);
      const V along = hn::NegMulAdd(xs, pull, hn::Mul(part.load(gradient.weight + i), dys));
      part.store(hn::MulAdd(scale, along, part.load(dx + i)), dx + i);
      if (dweight != nullptr) part.store(hn::MulAdd(dys, hn::Mul(xs, scale), part.load(dweight + i)), dweight + i);
    });
  }
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
HWY_EXPORT(norm_gradient);
HWY_EXPORT(add);
constexpr std::int64_t kGrain = 16384;   // values worth waking a thread for
constexpr std::int64_t kBlockRows = 64;  // whose part of dweight is summed by one thread
}  // namespace

namespace cpu {

void rms_norm_forward(Device& device, const float* x, const float* weight, float eps, std::int64_t rows, std::int64_t width,
                      float* y) {
  const auto kernel = HWY_DYNAMIC_DISPATCH(norm_row);
  const auto some_rows = [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t t = begin; t < end; ++t) kernel(x + t * width, weight, eps, width, y + t * width);
  };
  if (rows * width <= kGrain) return some_rows(0, rows, 0);
  device.pool.split(rows, 1, some_rows);
}

void rms_norm_backward(Device& device, const RmsNormGradient& gradient, std::int64_t rows, std::int64_t width) {
  const auto kernel = HWY_DYNAMIC_DISPATCH(norm_gradient);
  // dweight: blocks of rows have a sum of their own, and the blocks are added in order, whoever computed them.
  thread_local std::vector<float> kept;  // [blocks, D], grows once
  std::vector<float>& sums = kept;       // the caller's, for all threads
  const std::int64_t blocks = (rows + kBlockRows - 1) / kBlockRows;
  if (gradient.dweight != nullptr) sums.assign(static_cast<std::size_t>(blocks * width), 0.0f);
  const auto some_blocks = [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t b = begin; b < end; ++b) {
      float* const sum = gradient.dweight == nullptr ? nullptr : sums.data() + b * width;
      kernel(gradient, b * kBlockRows, std::min((b + 1) * kBlockRows, rows), width, sum);
    }
  };
  if (rows * width <= kGrain) {
    some_blocks(0, blocks, 0);
  } else {
    device.pool.split(blocks, 1, some_blocks);
  }
  if (gradient.dweight == nullptr) return;
  for (std::int64_t b = 0; b < blocks; ++b) HWY_DYNAMIC_DISPATCH(add)(gradient.dweight, sums.data() + b * width, width);
}

void add_forward(Device& device, float* x, const float* delta, std::int64_t rows, std::int64_t width) {
  const auto kernel = HWY_DYNAMIC_DISPATCH(add);
  const std::int64_t count = rows * width;
  if (count <= kGrain) return kernel(x, delta, count);
  device.pool.split(count, kGrain / 4,
                    [&](std::int64_t begin, std::int64_t end, int) { kernel(x + begin, delta + begin, end - begin); });
}

}  // namespace cpu
}  // namespace puna
#endif
