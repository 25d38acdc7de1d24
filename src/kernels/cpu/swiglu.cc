// SPDX-License-Identifier: Apache-2.0
// SwiGLU on the CPU. silu(x) = x exp(min(x, 0)) / (1 + exp(-|x|)): the exponential never overflows, and for large negative x the
// power of two is applied last, so that the result is as exact as its own format even where exp(x) is subnormal.
#include "kernels/swiglu.h"

#include <algorithm>

#include "base/error.h"
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/swiglu.cc"
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

HWY_INLINE V silu(D d, V x) {
  const V magnitude = hn::Min(hn::Abs(x), hn::Set(d, 150.0f));  // exp(-150) is 0 in F32
  const auto [mantissa, exponent] = exp_parts(d, hn::Neg(magnitude));
  const V half = hn::Floor(hn::Mul(exponent, hn::Set(d, 0.5f)));
  const V scale = power_of_two(d, half), rest = power_of_two(d, hn::Sub(exponent, half));
  const V small = hn::Mul(hn::Mul(mantissa, scale), rest);  // exp(-|x|)
  const auto negative = hn::Lt(x, hn::Zero(d));
  const V bounded = hn::IfThenElse(hn::Lt(x, hn::Set(d, -150.0f)), hn::Set(d, -150.0f), x);
  const V quotient = hn::Div(hn::IfThenElse(negative, hn::Mul(bounded, mantissa), bounded), hn::Add(hn::Set(d, 1.0f), small));
  return hn::IfThenElse(negative, hn::Mul(hn::Mul(quotient, scale), rest), quotient);
}

// gate, up, out [count]
void swiglu(const float* gate, const float* up, std::int64_t count, float* out) {
  const D d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) hn::StoreU(hn::Mul(silu(d, hn::LoadU(d, gate + i)), hn::LoadU(d, up + i)), d, out + i);
  if (i == count) return;
  alignas(64) float last_gate[16] = {}, last_up[16] = {};  // the last few go through the same instructions
  std::copy(gate + i, gate + count, last_gate);
  std::copy(up + i, up + count, last_up);
  hn::Store(hn::Mul(silu(d, hn::Load(d, last_gate)), hn::Load(d, last_up)), d, last_gate);
  std::copy(last_gate, last_gate + (count - i), out + i);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace puna
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace puna {
namespace {
HWY_EXPORT(swiglu);
constexpr std::int64_t kGrain = 8192;  // values worth waking a thread for
}  // namespace

void swiglu_forward(Device& device, const float* gate, const float* up, std::int64_t rows, std::int64_t width, float* out) {
  PUNA_CHECK(rows >= 0 && width >= 0, "swiglu", "shape [{}, {}]", rows, width);
  const auto kernel = HWY_DYNAMIC_DISPATCH(swiglu);
  const std::int64_t count = rows * width;
  if (count <= kGrain) return kernel(gate, up, count, out);
  device.pool.split(count, kGrain / 4,
                    [&](std::int64_t begin, std::int64_t end, int) { kernel(gate + begin, up + begin, end - begin, out + begin); });
}

}  // namespace puna
#endif
