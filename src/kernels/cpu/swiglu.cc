// SPDX-License-Identifier: Apache-2.0
// SwiGLU on the CPU. silu(x) = x exp(min(x, 0)) / (1 + exp(-|x|)): the exponential never overflows, and for large negative x the
// power of two is applied last, so that the result is as exact as its own format even where exp(x) is subnormal.
#include "kernels/swiglu.h"

#include "base/error.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/swiglu.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/by_vectors_inl.h"
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
  by_vectors(count,
             [&](std::int64_t i, auto part) { part.store(hn::Mul(silu(D(), part.load(gate + i)), part.load(up + i)), out + i); });
}

// Values [begin, end) of all five arrays. 1 - s is computed as such, not by a difference that cancels.
void swiglu_gradient(const SwigluGradient& gradient, std::int64_t begin, std::int64_t end) {
  const D d;
  const V one = hn::Set(d, 1.0f);
  by_vectors(end - begin, [&](std::int64_t i, auto part) {
    i += begin;
    const V gate = part.load(gradient.gate + i), up = part.load(gradient.up + i), dout = part.load(gradient.dout + i);
    const V small = exp_of_negative(d, hn::Neg(hn::Abs(gate)));
    const V large_share = hn::Div(one, hn::Add(one, small)), small_share = hn::Mul(small, large_share);
    const auto negative = hn::Lt(gate, hn::Zero(d));
    const V s = hn::IfThenElse(negative, small_share, large_share), rest = hn::IfThenElse(negative, large_share, small_share);
    const V slope = hn::Mul(s, hn::MulAdd(gate, rest, one));
    part.store(hn::Mul(hn::Mul(dout, up), slope), gradient.dgate + i);
    part.store(hn::Mul(hn::Mul(dout, gate), s), gradient.dup + i);
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace puna
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace puna {
namespace {
HWY_EXPORT(swiglu);
HWY_EXPORT(swiglu_gradient);
constexpr std::int64_t kGrain = 8192;  // values worth waking a thread for
}  // namespace

namespace cpu {

void swiglu_forward(Device& device, const float* gate, const float* up, std::int64_t rows, std::int64_t width, float* out) {
  const auto kernel = HWY_DYNAMIC_DISPATCH(swiglu);
  const std::int64_t count = rows * width;
  if (count <= kGrain) return kernel(gate, up, count, out);
  device.pool.split(count, kGrain / 4,
                    [&](std::int64_t begin, std::int64_t end, int) { kernel(gate + begin, up + begin, end - begin, out + begin); });
}

void swiglu_backward(Device& device, const SwigluGradient& gradient, std::int64_t rows, std::int64_t width) {
  const auto kernel = HWY_DYNAMIC_DISPATCH(swiglu_gradient);
  const std::int64_t count = rows * width;
  if (count <= kGrain) return kernel(gradient, 0, count);
  device.pool.split(count, kGrain / 4, [&](std::int64_t begin, std::int64_t end, int) { kernel(gradient, begin, end); });
}

}  // namespace cpu
}  // namespace puna
#endif
