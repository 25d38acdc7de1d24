// SPDX-License-Identifier: Apache-2.0
// The two readings of a row that a softmax needs: its largest value and the sum of exponentials.
// Compiled once per instruction set: included inside each target's namespace.
#if defined(PUNA_SOFTMAX_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef PUNA_SOFTMAX_INL
#undef PUNA_SOFTMAX_INL
#else
#define PUNA_SOFTMAX_INL
#endif

#include <hwy/highway.h>

#include <cmath>
#include <cstdint>

#include "kernels/cpu/exp_inl.h"
#include "kernels/cpu/wide_sum_inl.h"

HWY_BEFORE_NAMESPACE();
namespace puna {
namespace HWY_NAMESPACE {

// The largest of values [count]; count > 0. A NaN among them may or may not be seen here.
inline float largest(const float* values, std::int64_t count) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::CappedTag<float, 16> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  auto best = hn::Set(d, values[0]), other = best;
  std::int64_t i = 0;
  for (; i + 2 * lanes <= count; i += 2 * lanes) {
    best = hn::Max(best, hn::LoadU(d, values + i));
    other = hn::Max(other, hn::LoadU(d, values + i + lanes));
  }
  float result = hn::GetLane(hn::MaxOfLanes(d, hn::Max(best, other)));
  for (; i < count; ++i) result = values[i] > result ? values[i] : result;
  return result;
}

// sum_i exp(factor (values[i] - shift)), shift >= every value, factor > 0
inline double sum_of_exp(const float* values, std::int64_t count, float shift, float factor) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::CappedTag<float, 16> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto shifts = hn::Set(d, shift), factors = hn::Set(d, factor);
  WideSum<hn::CappedTag<float, 16>> sum;
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    sum.add(exp_of_negative(d, hn::Mul(factors, hn::Sub(hn::LoadU(d, values + i), shifts))));
  }
  double rest = 0;
  for (; i < count; ++i)
    rest += std::exp(static_cast<double>(factor) * (static_cast<double>(values[i]) - static_cast<double>(shift)));
  return sum.total() + rest;
}

}  // namespace HWY_NAMESPACE
}  // namespace puna
HWY_AFTER_NAMESPACE();

#endif
