// SPDX-License-Identifier: Apache-2.0
// AdamW on the CPU: one pass over weight, gradient and states, bound by memory. Factors that hold for a whole step are made in F64.
// 8-bit states are rounded up or down by chance, in proportion, so that a moving average decays although one step's decay is less
// than half a level; the chance is a hash of step and place, so a rerun is bit-equal.
#include "kernels/adamw.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/adamw.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/by_vectors_inl.h"
#include "kernels/cpu/wide_sum_inl.h"

HWY_BEFORE_NAMESPACE();
namespace puna {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, 16>;
using V = hn::Vec<D>;
using U = hn::RebindToUnsigned<D>;

struct Moments {
  V weight, m, v;
};

// The update of one vector.
class Update {
 public:
  explicit Update(const AdamwStep& step) {
    const auto count = static_cast<double>(step.step);
    const double bias1 = 1 - std::pow(step.beta1, count), bias2 = 1 - std::pow(step.beta2, count);
    scale_ = set(step.gradient_scale);
    beta1_ = set(step.beta1);
    beta2_ = set(step.beta2);
    rest1_ = set(1 - step.beta1);
    rest2_ = set(1 - step.beta2);
    rate_ = set(step.learning_rate / bias1);
    root_ = set(1 / std::sqrt(bias2));
    eps_ = set(step.eps);
    decay_ = set(step.learning_rate * step.decay);
  }

  HWY_INLINE Moments operator()(Moments old, V gradient) const {
    const V g = hn::Mul(gradient, scale_);
    const V m = hn::MulAdd(beta1_, old.m, hn::Mul(rest1_, g));
    const V v = hn::MulAdd(beta2_, old.v, hn::Mul(rest2_, hn::Mul(g, g)));
    const V change = hn::Div(hn::Mul(rate_, m), hn::MulAdd(hn::Sqrt(v), root_, eps_));
    return {hn::Sub(old.weight, hn::MulAdd(decay_, old.weight, change)), m, v};
  }

 private:
  static V set(double value) { return hn::Set(D(), static_cast<float>(value)); }
  V scale_, beta1_, beta2_, rest1_, rest2_, rate_, root_, eps_, decay_;
};

void update(const AdamwStep& step, std::int64_t count, float* weight, const float* gradient, float* m, float* v) {
  const Update next(step);
  by_vectors(count, [&](std::int64_t i, auto part) {
    const Moments result = next({part.load(weight + i), part.load(m + i), part.load(v + i)}, part.load(gradient + i));
    part.store(result.weight, weight + i);
    part.store(result.m, m + i);
    part.store(result.v, v + i);
  });
}

// Two numbers uniform in [0, 1) for each lane, by step and place: the halves of a hash.
struct Chances {
  V first, second;
};
HWY_INLINE Chances chances(std::uint32_t seed, std::int64_t place) {
  const U u;
  constexpr std::uint32_t kStride = 0x9e3779b1u;
  const auto lane = hn::Mul(hn::Iota(u, 0), hn::Set(u, kStride));  // the same for all places
  auto x = hn::Add(lane, hn::Set(u, seed + static_cast<std::uint32_t>(place) * kStride));
  x = hn::Mul(hn::Xor(x, hn::ShiftRight<16>(x)), hn::Set(u, 0x85ebca6bu));
  x = hn::Mul(hn::Xor(x, hn::ShiftRight<13>(x)), hn::Set(u, 0xc2b2ae35u));
  const auto uniform = [](auto bits) {
    const hn::RebindToSigned<D> i32;
    return hn::Mul(hn::ConvertTo(D(), hn::BitCast(i32, bits)), hn::Set(D(), 0x1p-16f));
  };
  return {uniform(hn::ShiftRight<16>(x)), uniform(hn::And(x, hn::Set(u, 0xffffu)))};
}

// A block of states as F32.
struct BlockStates {
  HWY_ALIGN float m[kAdamwBlock];
  HWY_ALIGN float root[kAdamwBlock];  // sqrt(v)
};

// levels [count] -> values [count] = scale levels, by way of a whole block, so that the loop is vectorised.
template <typename Level>
HWY_INLINE void load_levels(const Level* levels, std::int64_t count, float scale, float* HWY_RESTRICT values) {
  Level whole[kAdamwBlock] = {};
  std::copy_n(levels, count, whole);
  for (std::int64_t i = 0; i < kAdamwBlock; ++i) values[i] = static_cast<float>(whole[i]) * scale;
}

// The other way: values that are levels already.
template <typename Level>
HWY_INLINE void store_levels(const float* HWY_RESTRICT values, std::int64_t count, Level* levels) {
  Level whole[kAdamwBlock];
  for (std::int64_t i = 0; i < kAdamwBlock; ++i) whole[i] = static_cast<Level>(static_cast<std::int32_t>(values[i]));
  std::copy_n(whole, count, levels);
}

// The block's states become levels, rounded by chance; what is 0 stays 0, and no other v becomes 0.
HWY_INLINE void round_by_chance(BlockStates& block, std::int64_t count, float m_scale, float v_scale, std::uint32_t seed) {
  const D d;
  const auto inverse = [&](float scale) { return hn::Set(d, scale > 0 ? 1 / scale : 0.0f); };
  const V to_m = inverse(m_scale), to_v = inverse(v_scale), most_m = hn::Set(d, 127.0f), most_v = hn::Set(d, 255.0f);
  by_vectors(count, [&](std::int64_t i, auto part) {
    const Chances chance = chances(seed, i);
    const V m = hn::Floor(hn::MulAdd(part.load(block.m + i), to_m, chance.first));
    const V root = part.load(block.root + i);
    const V v = hn::Max(hn::Floor(hn::MulAdd(root, to_v, chance.second)), hn::Set(d, 1.0f));
    part.store(hn::Max(hn::Min(m, most_m), hn::Neg(most_m)), block.m + i);
    part.store(hn::IfThenElseZero(hn::Gt(root, hn::Zero(d)), hn::Min(v, most_v)), block.root + i);
  });
}

// Values [begin, end) of the tensor: blocks [begin / kAdamwBlock, …).
void update_8bit(const AdamwStep& step, const Adamw8BitState& state, std::int64_t begin, std::int64_t end, float* weight,
                 const float* gradient) {
  const Update next(step);
  BlockStates block;
  for (std::int64_t first = begin; first < end; first += kAdamwBlock) {
    const std::int64_t count = std::min(kAdamwBlock, end - first);
    std::int8_t* const qm = state.m.data() + first;
    std::uint8_t* const qv = state.v.data() + first;
    float& m_scale = state.m_scale[static_cast<std::size_t>(first / kAdamwBlock)];
    float& v_scale = state.v_scale[static_cast<std::size_t>(first / kAdamwBlock)];
    load_levels(qm, count, m_scale, block.m);
    load_levels(qv, count, v_scale, block.root);
    V m_peak = hn::Zero(D()), root_peak = m_peak;
    by_vectors(count, [&](std::int64_t i, auto part) {
      const V root = part.load(block.root + i);
      const Moments result =
          next({part.load(weight + first + i), part.load(block.m + i), hn::Mul(root, root)}, part.load(gradient + first + i));
      part.store(result.weight, weight + first + i);
      const V new_root = hn::Sqrt(result.v);
      part.store(result.m, block.m + i);
      part.store(new_root, block.root + i);
      m_peak = hn::Max(m_peak, hn::Abs(result.m));
      root_peak = hn::Max(root_peak, new_root);
    });
    m_scale = hn::GetLane(hn::MaxOfLanes(D(), m_peak)) / 127;
    v_scale = hn::GetLane(hn::MaxOfLanes(D(), root_peak)) / 255;
    const auto seed = static_cast<std::uint32_t>(step.step * 0x632be5ab + first);
    round_by_chance(block, count, m_scale, v_scale, seed);
    store_levels(block.m, count, qm);
    store_levels(block.root, count, qv);
  }
}

double squares(const float* x, std::int64_t count) {
  WideSum<D> sum;
  by_vectors(count, [&](std::int64_t i, auto part) { sum.add_square(part.load(x + i)); });
  return sum.total();
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace puna
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace puna {
namespace {
HWY_EXPORT(update);
HWY_EXPORT(update_8bit);
HWY_EXPORT(squares);
constexpr std::int64_t kGrain = 16384;  // values worth waking a thread for
constexpr std::int64_t kParts = 256;    // of a sum of squares: added in order, whoever computed them
}  // namespace

namespace cpu {

void adamw_update(Device& device, const AdamwStep& step, std::span<float> weight, std::span<const float> gradient,
                  std::span<float> m, std::span<float> v) {
  const auto kernel = HWY_DYNAMIC_DISPATCH(update);
  const auto range = [&](std::int64_t begin, std::int64_t end, int) {
    kernel(step, end - begin, weight.data() + begin, gradient.data() + begin, m.data() + begin, v.data() + begin);
  };
  const auto count = static_cast<std::int64_t>(weight.size());
  if (count <= kGrain) return range(0, count, 0);
  device.pool.split(count, kGrain / 4, range);
}

void adamw_update_8bit(Device& device, const AdamwStep& step, std::span<float> weight, std::span<const float> gradient,
                       const Adamw8BitState& state) {
  const auto count = static_cast<std::int64_t>(weight.size());
  const auto kernel = HWY_DYNAMIC_DISPATCH(update_8bit);
  const auto range = [&](std::int64_t begin, std::int64_t end, int) {
    kernel(step, state, begin, end, weight.data(), gradient.data());
  };
  if (count <= kGrain) return range(0, count, 0);
  device.pool.split(count, kAdamwBlock, range);
}

double sum_of_squares(Device& device, std::span<const float> x) {
  const auto kernel = HWY_DYNAMIC_DISPATCH(squares);
  const auto count = static_cast<std::int64_t>(x.size());
  const std::int64_t part = std::max(kGrain / 4, (count + kParts - 1) / kParts), parts = (count + part - 1) / part;
  std::array<double, kParts> sums{};
  const auto some_parts = [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t p = begin; p < end; ++p) {
      sums[static_cast<std::size_t>(p)] = kernel(x.data() + p * part, std::min(part, count - p * part));
    }
  };
  if (count <= kGrain) {
    some_parts(0, parts, 0);
  } else {
    device.pool.split(parts, 1, some_parts);
  }
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

}  // namespace cpu
}  // namespace puna
#endif
