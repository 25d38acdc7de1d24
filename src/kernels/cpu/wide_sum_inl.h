// SPDX-License-Identifier: Apache-2.0
// Sums in F64 of vectors of F32. Compiled once per instruction set: included inside each target's namespace.
#if defined(PUNA_WIDE_SUM_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef PUNA_WIDE_SUM_INL
#undef PUNA_WIDE_SUM_INL
#else
#define PUNA_WIDE_SUM_INL
#endif

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace puna {
namespace HWY_NAMESPACE {

template <class D>
class WideSum {
 public:
  // Written out: an implicit constructor would not be compiled for the target.
  HWY_INLINE WideSum() : low_(hwy::HWY_NAMESPACE::Zero(Wide())), high_(hwy::HWY_NAMESPACE::Zero(Wide())) {}
  template <class V>
  HWY_INLINE void add(V v) {
    namespace hn = hwy::HWY_NAMESPACE;
    const hn::Half<D> half;
    low_ = hn::Add(low_, hn::PromoteTo(Wide(), hn::LowerHalf(half, v)));
    high_ = hn::Add(high_, hn::PromoteTo(Wide(), hn::UpperHalf(half, v)));
  }
  template <class V>
  HWY_INLINE void add_square(V v) {
    namespace hn = hwy::HWY_NAMESPACE;
    const hn::Half<D> half;
    const auto low = hn::PromoteTo(Wide(), hn::LowerHalf(half, v)), high = hn::PromoteTo(Wide(), hn::UpperHalf(half, v));
    low_ = hn::MulAdd(low, low, low_);
    high_ = hn::MulAdd(high, high, high_);
  }
  HWY_INLINE double total() const {
    namespace hn = hwy::HWY_NAMESPACE;
    return hn::GetLane(hn::SumOfLanes(Wide(), hn::Add(low_, high_)));
  }

 private:
  using Wide = hwy::HWY_NAMESPACE::Repartition<double, D>;
  hwy::HWY_NAMESPACE::Vec<Wide> low_, high_;
};

}  // namespace HWY_NAMESPACE
}  // namespace puna
HWY_AFTER_NAMESPACE();

#endif
