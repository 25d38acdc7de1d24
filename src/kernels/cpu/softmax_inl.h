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

#include <cstdint>

#include "kernels/cpu/by_vectors_inl.h"
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

// sum_i exp(factor (values[i] - shift)), shift >= every value, factor > 0; each(i, part, exponentials) sees every term.
template <class Each>
HWY_INLINE double sum_of_exp(const float* values, std::int64_t count, float shift, float factor, const Each& each) {
  namespace hn = hwy::HWY_NAMESPACE;
  using D = hn::CappedTag<float, 16>;
  const D d;
  const auto shifts = hn::Set(d, shift), factors = hn::Set(d, factor);
  WideSum<D> sum;
  by_vectors(count, [&](std::int64_t i, auto part) {
    const auto e = exp_of_negative(d, hn::Mul(factors, hn::Sub(part.load(values + i), shifts)));
    each(i, part, e);
    sum.add(part.keep(e));
  });
  return sum.total();
}

HWY_INLINE double sum_of_exp(const float* values, std::int64_t count, float shift, float factor) {
  return sum_of_exp(values, count, shift, factor, [](std::int64_t, const auto&, const auto&) {});
}

}  // namespace HWY_NAMESPACE
}  // namespace puna
HWY_AFTER_NAMESPACE();

#endif
