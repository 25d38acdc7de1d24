// SPDX-License-Identifier: Apache-2.0
// exp for vectors of F32, once per instruction set (included again for every target, hence no #pragma once).
// x = n ln 2 + r with |r| <= ln 2 / 2, and exp(r) = 1 + r + r^2 q(r), q a minimax polynomial of degree 4 whose relative error in
// exp(r) is 3.1e-9, a twentieth of an ulp. NaN stays NaN.
#if defined(PUNA_KERNELS_CPU_EXP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef PUNA_KERNELS_CPU_EXP_INL_H_
#undef PUNA_KERNELS_CPU_EXP_INL_H_
#else
#define PUNA_KERNELS_CPU_EXP_INL_H_
#endif

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace puna {
namespace HWY_NAMESPACE {

// exp(x) = mantissa * 2^exponent, mantissa in [0.7, 1.42], exponent a whole number in F32. |x| <= 2^16.
template <class V>
struct ExpParts {
  V mantissa, exponent;
};

template <class D, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE ExpParts<V> exp_parts(D d, V x) {
  namespace hn = hwy::HWY_NAMESPACE;
  const V n = hn::Round(hn::Mul(x, hn::Set(d, 0x1.715476p+0f)));
  // ln 2 in two pieces; the first has few bits, so that n times it is exact even without fused multiply-add.
  const V r = hn::NegMulAdd(n, hn::Set(d, -0x1.bd0106p-13f), hn::NegMulAdd(n, hn::Set(d, 0x1.63p-1f), x));
  V q = hn::Set(d, 0x1.6a2256p-10f);
  q = hn::MulAdd(q, r, hn::Set(d, 0x1.123b04p-7f));
  q = hn::MulAdd(q, r, hn::Set(d, 0x1.5558f8p-5f));
  q = hn::MulAdd(q, r, hn::Set(d, 0x1.555490p-3f));
  q = hn::MulAdd(q, r, hn::Set(d, 0x1.fffffcp-2f));
  return {hn::Add(hn::MulAdd(hn::Mul(r, r), q, r), hn::Set(d, 1.0f)), n};
}

// 2^n for whole n in [-126, 127].
template <class D, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE V power_of_two(D d, V n) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::RebindToSigned<D> di;
  return hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(di, n), hn::Set(di, 127))));
}

// exp(x) for x <= 0, at most 1 ulp or so; below -87.33, where it would be subnormal, exactly 0.
template <class D, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE V exp_of_negative(D d, V x) {
  namespace hn = hwy::HWY_NAMESPACE;
  const V lowest = hn::Set(d, -87.33f);
  const auto tiny = hn::Lt(x, lowest);
  const auto [mantissa, exponent] = exp_parts(d, hn::IfThenElse(tiny, lowest, x));
  return hn::IfThenZeroElse(tiny, hn::Mul(mantissa, power_of_two(d, exponent)));
}

}  // namespace HWY_NAMESPACE
}  // namespace puna
HWY_AFTER_NAMESPACE();

#endif
