// SPDX-License-Identifier: Apache-2.0
// Losses over the vocabulary on the CPU. A row belongs to one thread and is read three times, the last two from its cache: the
// largest logit, the exponentials and their sum (F64), the gradient.
#include "kernels/cross_entropy.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/targets.h"
#include "kernels/softmax.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/cross_entropy.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/by_vectors_inl.h"
#include "kernels/cpu/softmax_inl.h"

HWY_BEFORE_NAMESPACE();
namespace puna {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, 16>;
using V = hn::Vec<D>;

// Replaces logits [V] by weight (softmax - [v = target]); returns the target's log probability.
double cross_entropy_row(float* logits, std::int64_t vocabulary, std::int32_t target, float weight) {
  const D d;
  const float peak = largest(logits, vocabulary);
  const float at_target = logits[target];
  const double sum =
      sum_of_exp(logits, vocabulary, peak, 1.0f, [&](std::int64_t v, const auto& part, V e) { part.store(e, logits + v); });
  const double log_prob = static_cast<double>(at_target) - static_cast<double>(peak) - std::log(sum);
  const V factor = hn::Set(d, static_cast<float>(static_cast<double>(weight) / sum));
  by_vectors(vocabulary, [&](std::int64_t v, auto part) { part.store(hn::Mul(part.load(logits + v), factor), logits + v); });
  logits[target] = static_cast<float>(static_cast<double>(weight) * std::expm1(log_prob));  // p - 1 without cancelling
  return log_prob;
}

// Of the columns [V_r] that one rank has of a row.
LogitSums sums_of_row(const float* logits, std::int64_t count, std::int32_t target) {
  const float peak = largest(logits, count);
  return {static_cast<double>(peak), sum_of_exp(logits, count, peak, 1.0f),
          target == kNotHere ? 0.0 : static_cast<double>(logits[target])};
}

// logits [V_r] = factor exp(logits - peak)
void softmax_row(float* logits, std::int64_t count, float peak, float factor) {
  const D d;
  const V peaks = hn::Set(d, peak), factors = hn::Set(d, factor);
  by_vectors(count, [&](std::int64_t v, auto part) {
    part.store(hn::Mul(factors, exp_of_negative(d, hn::Sub(part.load(logits + v), peaks))), logits + v);
  });
}

// A row of logits at a temperature: p[v] = exp(e[v]) / sum, log p[v] = e[v] - log_sum, e[v] = factor (logits[v] - peak).
struct TemperedRow {
  const float* logits;
  V peak, factor, inverse_sum, log_sum;

  TemperedRow(const float* row, std::int64_t vocabulary, double temperature) : logits(row) {
    const D d;
    const float largest_logit = largest(row, vocabulary), inverse = static_cast<float>(1 / temperature);
    const double sum = sum_of_exp(row, vocabulary, largest_logit, inverse);
    peak = hn::Set(d, largest_logit);
    factor = hn::Set(d, inverse);
    inverse_sum = hn::Set(d, static_cast<float>(1 / sum));
    log_sum = hn::Set(d, static_cast<float>(std::log(sum)));
  }

  template <class Part>
  HWY_INLINE V exponents(std::int64_t v, const Part& part) const {
    return hn::Mul(factor, hn::Sub(part.load(logits + v), peak));
  }
  HWY_INLINE V probability(V exponent) const { return hn::Mul(exp_of_negative(D(), exponent), inverse_sum); }
};

// a (log ratio), but 0 where a is: what a softmax has ruled out adds nothing, even at a logit of -infinity.
HWY_INLINE V share(V a, V log_ratio) { return hn::IfThenZeroElse(hn::Eq(a, hn::Zero(D())), hn::Mul(a, log_ratio)); }

// Adds weight t^2 dloss / dstudent to dlogits [V]; returns t^2 times the divergence.
double distillation_row(const float* student, const DistillationRows& rows, std::int64_t r, float weight, float* dlogits) {
  const D d;
  const TemperedRow p(rows.teacher + r * rows.vocabulary, rows.vocabulary, rows.temperature);
  const TemperedRow q(student, rows.vocabulary, rows.temperature);
  const double share_of_forward = forward_share(rows.direction), share_of_reverse = 1 - share_of_forward;
  // log p[v] - log q[v]
  const auto log_ratio = [&](V p_exponent, V q_exponent) {
    return hn::Add(hn::Sub(p_exponent, q_exponent), hn::Sub(q.log_sum, p.log_sum));
  };
  WideSum<D> forward_sum, reverse_sum;
  by_vectors(rows.vocabulary, [&](std::int64_t v, auto part) {
    const V p_exponent = p.exponents(v, part), q_exponent = q.exponents(v, part), ratio = log_ratio(p_exponent, q_exponent);
    forward_sum.add(part.keep(share(p.probability(p_exponent), ratio)));
    reverse_sum.add(part.keep(share(q.probability(q_exponent), ratio)));
  });
  const double forward = share_of_forward > 0 ? forward_sum.total() : 0, reverse = share_of_reverse > 0 ? -reverse_sum.total() : 0;
  const double step = static_cast<double>(weight) * rows.temperature;
  const V forward_factor = hn::Set(d, static_cast<float>(step * share_of_forward));
  const V reverse_factor = hn::Set(d, static_cast<float>(step * share_of_reverse));
  const V mean = hn::Set(d, static_cast<float>(reverse));
  by_vectors(rows.vocabulary, [&](std::int64_t v, auto part) {
    const V p_exponent = p.exponents(v, part), q_exponent = q.exponents(v, part);
    const V ps = p.probability(p_exponent), qs = q.probability(q_exponent);
    V change = hn::Mul(forward_factor, hn::Sub(qs, ps));
    if (share_of_reverse > 0)
      change = hn::NegMulAdd(reverse_factor, share(qs, hn::Add(log_ratio(p_exponent, q_exponent), mean)), change);
    part.store(hn::Add(part.load(dlogits + v), change), dlogits + v);
  });
  return rows.temperature * rows.temperature * (share_of_forward * forward + share_of_reverse * reverse);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace puna
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace puna {
namespace {
HWY_EXPORT(cross_entropy_row);
HWY_EXPORT(sums_of_row);
HWY_EXPORT(softmax_row);
HWY_EXPORT(distillation_row);
constexpr std::int64_t kGrain = 8192;  // logits worth waking a thread for

void check(const TargetRows& rows) {
  for (std::int64_t r = 0; r < rows.rows; ++r) {
    PUNA_CHECK(rows.targets[r] >= 0 && rows.targets[r] < rows.vocabulary, "cross_entropy",
               "target {} of row {} in a vocabulary of {}", rows.targets[r], r, rows.vocabulary);
  }
}

template <class OneRow>
void each_row(Device& device, std::int64_t rows, std::int64_t vocabulary, const OneRow& one_row) {
  const auto some_rows = [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t r = begin; r < end; ++r) one_row(r);
  };
  if (rows * vocabulary <= kGrain) return some_rows(0, rows, 0);
  device.pool.split(rows, 1, some_rows);
}
}  // namespace

namespace cpu {

void target_log_probs(Device& device, const float* logits, const TargetRows& rows, double* log_probs) {
  check(rows);
  each_row(device, rows.rows, rows.vocabulary, [&](std::int64_t r) {
    const float* const row = logits + r * rows.vocabulary;
    log_probs[r] = static_cast<double>(row[rows.targets[r]]) - log_sum_exp({row, static_cast<std::size_t>(rows.vocabulary)});
  });
}

void cross_entropy_backward(Device& device, float* logits, const TargetRows& rows, const float* weights, double* log_probs) {
  check(rows);
  const auto kernel = HWY_DYNAMIC_DISPATCH(cross_entropy_row);
  each_row(device, rows.rows, rows.vocabulary, [&](std::int64_t r) {
    log_probs[r] = kernel(logits + r * rows.vocabulary, rows.vocabulary, rows.targets[r], weights[r]);
  });
}

void sum_logits(Device& device, const float* logits, const TargetRows& rows, LogitSums* sums) {
  const auto kernel = HWY_DYNAMIC_DISPATCH(sums_of_row);
  each_row(device, rows.rows, rows.vocabulary,
           [&](std::int64_t r) { sums[r] = kernel(logits + r * rows.vocabulary, rows.vocabulary, rows.targets[r]); });
}

void softmax_gradient(Device& device, float* logits, const TargetRows& rows, const SoftmaxRows& softmax) {
  const auto kernel = HWY_DYNAMIC_DISPATCH(softmax_row);
  each_row(device, rows.rows, rows.vocabulary, [&](std::int64_t r) {
    float* const row = logits + r * rows.vocabulary;
    kernel(row, rows.vocabulary, softmax.peaks[r], softmax.factors[r]);
    if (rows.targets[r] != kNotHere) row[rows.targets[r]] = softmax.at_targets[r];
  });
}

void distillation_backward(Device& device, const float* student, const DistillationRows& rows, const float* weights, float* dlogits,
                           double* losses) {
  const auto kernel = HWY_DYNAMIC_DISPATCH(distillation_row);
  each_row(device, rows.rows, rows.vocabulary, [&](std::int64_t r) {
    losses[r] = kernel(student + r * rows.vocabulary, rows, r, weights[r], dlogits + r * rows.vocabulary);
  });
}

}  // namespace cpu
}  // namespace puna
#endif
