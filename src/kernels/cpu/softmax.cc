// SPDX-License-Identifier: Apache-2.0
// log_sum_exp on the CPU: exponentials in F32, summed in F64.
#include "kernels/softmax.h"

#include <cmath>
#include <limits>

#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/softmax.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/exp_inl.h"

HWY_BEFORE_NAMESPACE();
namespace puna {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, 16>;
using V = hn::Vec<D>;

// The largest of values [count]; count > 0. A NaN among them may or may not be seen here.
float largest(const float* values, std::int64_t count) {
  const D d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  V best = hn::Set(d, values[0]);
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) best = hn::Max(best, hn::LoadU(d, values + i));
  float result = hn::GetLane(hn::MaxOfLanes(d, best));
  for (; i < count; ++i) result = values[i] > result ? values[i] : result;
  return result;
}

// sum_i exp(values[i] - shift), shift >= every value
double sum_of_exp(const float* values, std::int64_t count, float shift) {
  const D d;
  const hn::Repartition<double, D> wide;
  const hn::Half<D> half;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const V shifts = hn::Set(d, shift);
  auto low = hn::Zero(wide), high = hn::Zero(wide);
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const V e = exp_of_negative(d, hn::Sub(hn::LoadU(d, values + i), shifts));
    low = hn::Add(low, hn::PromoteTo(wide, hn::LowerHalf(half, e)));
    high = hn::Add(high, hn::PromoteTo(wide, hn::UpperHalf(half, e)));
  }
  double sum = hn::GetLane(hn::SumOfLanes(wide, hn::Add(low, high)));
  for (; i < count; ++i) sum += std::exp(static_cast<double>(values[i]) - static_cast<double>(shift));
  return sum;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace puna
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace puna {
namespace {
HWY_EXPORT(largest);
HWY_EXPORT(sum_of_exp);
}  // namespace

double log_sum_exp(std::span<const float> logits) {
  if (logits.empty()) return -std::numeric_limits<double>::infinity();
  const auto count = static_cast<std::int64_t>(logits.size());
  const float shift = HWY_DYNAMIC_DISPATCH(largest)(logits.data(), count);
  if (std::isinf(shift)) return shift;
  return static_cast<double>(shift) + std::log(HWY_DYNAMIC_DISPATCH(sum_of_exp)(logits.data(), count, shift));
}

}  // namespace puna
#endif
