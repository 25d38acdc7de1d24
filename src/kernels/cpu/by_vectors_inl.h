// SPDX-License-Identifier: Apache-2.0
// Walks arrays of F32 vector by vector; the last few values go through the same instructions as all others, so that a value does
// not depend on its place. Compiled once per instruction set: included inside each target's namespace.
#if defined(PUNA_BY_VECTORS_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef PUNA_BY_VECTORS_INL
#undef PUNA_BY_VECTORS_INL
#else
#define PUNA_BY_VECTORS_INL
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace puna {
namespace HWY_NAMESPACE {
namespace by_vectors_detail {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, 16>;  // 16 lanes at most
using V = hn::Vec<D>;

struct Whole {
  HWY_INLINE V load(const float* p) const { return hn::LoadU(D(), p); }
  HWY_INLINE void store(V v, float* p) const { hn::StoreU(v, D(), p); }
  HWY_INLINE V keep(V v) const { return v; }
};

// The first `count` lanes; the others load as zero and are not stored.
struct Part {
  std::int64_t count;
  HWY_INLINE V load(const float* p) const {
    HWY_ALIGN float lanes[16] = {};
    std::copy_n(p, count, lanes);
    return hn::Load(D(), lanes);
  }
  HWY_INLINE void store(V v, float* p) const {
    HWY_ALIGN float lanes[16];
    hn::Store(v, D(), lanes);
    std::copy_n(lanes, count, p);
  }
  HWY_INLINE V keep(V v) const { return hn::IfThenElseZero(hn::FirstN(D(), static_cast<std::size_t>(count)), v); }
};
}  // namespace by_vectors_detail

// body(i, part) for i = 0, Lanes, 2 Lanes … below count; part.load(p + i) and part.store(v, p + i) touch p [count] alone, and
// part.keep(v) has zeros in the lanes behind the end.
template <class Body>
HWY_INLINE void by_vectors(std::int64_t count, const Body& body) {
  using namespace by_vectors_detail;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(D()));
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) body(i, Whole());
  if (i < count) body(i, Part{count - i});
}

}  // namespace HWY_NAMESPACE
}  // namespace puna
HWY_AFTER_NAMESPACE();

#endif
