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

#include "kernels/cpu/softmax_inl.h"

HWY_BEFORE_NAMESPACE();
namespace puna {
namespace HWY_NAMESPACE {
namespace {

float largest_of(const float* values, std::int64_t count) { return largest(values, count); }
double sum_of_exp_of(const float* values, std::int64_t count, float shift) { return sum_of_exp(values, count, shift, 1.0f); }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace puna
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace puna {
namespace {
HWY_EXPORT(largest_of);
HWY_EXPORT(sum_of_exp_of);
}  // namespace

double log_sum_exp(std::span<const float> logits) {
  if (logits.empty()) return -std::numeric_limits<double>::infinity();
  const auto count = static_cast<std::int64_t>(logits.size());
  const float shift = HWY_DYNAMIC_DISPATCH(largest_of)(logits.data(), count);
  if (std::isinf(shift)) return shift;
  return static_cast<double>(shift) + std::log(HWY_DYNAMIC_DISPATCH(sum_of_exp_of)(logits.data(), count, shift));
}

}  // namespace puna
#endif
