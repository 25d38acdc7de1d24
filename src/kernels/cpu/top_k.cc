// SPDX-License-Identifier: Apache-2.0
// The k likeliest tokens and the rest on the CPU. A row belongs to one thread. The rest is summed over the runs of tokens between
// the kept ones, which are ascending, with its own largest logit: it is exact however little it is.
#include "kernels/top_k.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/top_k.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/by_vectors_inl.h"
#include "kernels/cpu/softmax_inl.h"

#ifndef PUNA_KERNELS_CPU_TOP_K_ROW
#define PUNA_KERNELS_CPU_TOP_K_ROW
namespace puna {
namespace {

// A row of logits and the tokens K of it.
struct KeptRow {
  const float* logits;
  std::int64_t vocabulary;
  const std::int32_t* ids;  // [count] ascending
  std::int64_t count;
};

// sum_{v not in K} exp(logits[v]) = sum exp(peak); sum is 0 where there is no such v, or none that is not ruled out.
struct Rest {
  float peak;
  double sum;
};

}  // namespace
}  // namespace puna
#endif

HWY_BEFORE_NAMESPACE();
namespace puna {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, 16>;

// body(first, count) for every run of tokens that are not in K.
template <class Body>
HWY_INLINE void between(const KeptRow& row, const Body& body) {
  std::int64_t begin = 0;
  for (std::int64_t i = 0; i < row.count; ++i) {
    if (row.ids[i] > begin) body(begin, row.ids[i] - begin);
    begin = row.ids[i] + 1;
  }
  if (begin < row.vocabulary) body(begin, row.vocabulary - begin);
}

Rest rest_of(const KeptRow& row) {
  float peak = -std::numeric_limits<float>::infinity();
  between(row, [&](std::int64_t v, std::int64_t count) { peak = std::max(peak, largest(row.logits + v, count)); });
  if (peak == -std::numeric_limits<float>::infinity()) return {peak, 0};
  double sum = 0;
  between(row, [&](std::int64_t v, std::int64_t count) { sum += sum_of_exp(row.logits + v, count, peak, 1.0f); });
  return {peak, sum};
}

// dlogits[v] += slope exp(logits[v] - peak) for v not in K
void add_rest(const KeptRow& row, float peak, float slope, float* dlogits) {
  const D d;
  const auto slopes = hn::Set(d, slope), peaks = hn::Set(d, peak);
  between(row, [&](std::int64_t first, std::int64_t count) {
    by_vectors(count, [&](std::int64_t i, auto part) {
      const auto e = exp_of_negative(d, hn::Sub(part.load(row.logits + first + i), peaks));
      part.store(hn::MulAdd(slopes, e, part.load(dlogits + first + i)), dlogits + first + i);
    });
  });
}

// A heap whose top is the last of the k; most of the row is passed over a block at a time, having nothing above that.
void choose(const float* logits, std::int64_t vocabulary, std::int32_t* ids, std::int64_t k) {
  constexpr std::int64_t kBlock = 128;
  const auto likelier = [&](std::int32_t a, std::int32_t b) { return logits[a] > logits[b] || (logits[a] == logits[b] && a < b); };
  for (std::int64_t v = 0; v < k; ++v) ids[v] = static_cast<std::int32_t>(v);
  std::make_heap(ids, ids + k, likelier);
  for (std::int64_t block = k; block < vocabulary; block += kBlock) {
    const std::int64_t end = std::min(block + kBlock, vocabulary);
    if (!(largest(logits + block, end - block) > logits[ids[0]])) continue;
    for (std::int64_t v = block; v < end; ++v) {
      if (!(logits[v] > logits[ids[0]])) continue;
      std::pop_heap(ids, ids + k, likelier);
      ids[k - 1] = static_cast<std::int32_t>(v);
      std::push_heap(ids, ids + k, likelier);
    }
  }
  std::sort(ids, ids + k);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace puna
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace puna {
namespace {
HWY_EXPORT(rest_of);
HWY_EXPORT(add_rest);
HWY_EXPORT(choose);

constexpr double kNothing = -std::numeric_limits<double>::infinity();

// The outcomes i = 0 … k of a row as log-probabilities: logits[ids[i]] - log_total, the last the rest's.
struct Outcomes {
  double log_total, log_rest;

  Outcomes(const KeptRow& row, const Rest& rest) {
    double peak = static_cast<double>(rest.peak);
    for (std::int64_t i = 0; i < row.count; ++i) peak = std::max(peak, static_cast<double>(row.logits[row.ids[i]]));
    double total = rest.sum > 0 ? rest.sum * std::exp(static_cast<double>(rest.peak) - peak) : rest.sum;
    for (std::int64_t i = 0; i < row.count; ++i) total += std::exp(static_cast<double>(row.logits[row.ids[i]]) - peak);
    log_total = peak + std::log(total);
    log_rest = rest.sum == 0 ? kNothing : static_cast<double>(rest.peak) + std::log(rest.sum) - log_total;
  }
};

// log softmax(values / t) over i = 0 … last, one at a time; values(i) is a log-probability.
template <class Values>
class Tempered {
 public:
  Tempered(const Values& values, std::int64_t last, double temperature) : values_(values), inverse_(1 / temperature) {
    double peak = kNothing, sum = 0;
    for (std::int64_t i = 0; i <= last; ++i) peak = std::max(peak, values(i) * inverse_);
    for (std::int64_t i = 0; i <= last; ++i) sum += std::exp(values(i) * inverse_ - peak);
    log_sum_ = peak + std::log(sum);
  }
  double operator()(std::int64_t i) const { return values_(i) * inverse_ - log_sum_; }

 private:
  const Values& values_;
  double inverse_, log_sum_ = 0;
};

// p (log p - log q), but 0 where p is.
double share(double log_p, double log_q) { return log_p == kNothing ? 0 : std::exp(log_p) * (log_p - log_q); }

double distillation_row(const float* student, const TopKDistillationRows& rows, std::int64_t r, double weight, float* dlogits) {
  const std::int64_t first = rows.begin[r], k = rows.begin[r + 1] - first;
  const KeptRow row{student, rows.vocabulary, rows.ids + first, k};
  const Rest rest = HWY_DYNAMIC_DISPATCH(rest_of)(row);
  const Outcomes outcomes(row, rest);
  const auto a = [&](std::int64_t i) {
    return i == k ? outcomes.log_rest : static_cast<double>(student[row.ids[i]]) - outcomes.log_total;
  };
  const auto b = [&](std::int64_t i) { return static_cast<double>(i == k ? rows.rest[r] : rows.log_probs[first + i]); };
  const Tempered q(a, k, rows.temperature);
  const Tempered p(b, k, rows.temperature);
  const double share_of_forward = forward_share(rows.direction), share_of_reverse = 1 - share_of_forward;
  double forward = 0, reverse = 0;
  for (std::int64_t i = 0; i <= k; ++i) {
    if (share_of_forward > 0) forward += share(p(i), q(i));
    if (share_of_reverse > 0) reverse += share(q(i), p(i));
  }
  const auto slope = [&](std::int64_t i) {
    const double log_p = p(i), log_q = q(i);
    double change = share_of_forward * (std::exp(log_q) - std::exp(log_p));
    if (share_of_reverse > 0) change += share_of_reverse * (share(log_q, log_p) - std::exp(log_q) * reverse);
    return weight * rows.temperature * change;
  };
  for (std::int64_t i = 0; i < k; ++i) dlogits[row.ids[i]] += static_cast<float>(slope(i));
  if (rest.sum > 0) HWY_DYNAMIC_DISPATCH(add_rest)(row, rest.peak, static_cast<float>(slope(k) / rest.sum), dlogits);
  return rows.temperature * rows.temperature * (share_of_forward * forward + share_of_reverse * reverse);
}

}  // namespace

namespace cpu {

void top_k_log_probs(Device& device, const float* logits, std::int64_t rows, std::int64_t vocabulary, const TopKRows& top) {
  device.pool.split(rows, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t r = begin; r < end; ++r) {
      const float* const row = logits + r * vocabulary;
      std::int32_t* const ids = top.ids + r * top.k;
      HWY_DYNAMIC_DISPATCH(choose)(row, vocabulary, ids, top.k);
      const KeptRow kept{row, vocabulary, ids, top.k};
      const Outcomes outcomes(kept, HWY_DYNAMIC_DISPATCH(rest_of)(kept));
      for (std::int64_t i = 0; i < top.k; ++i)
        top.log_probs[r * top.k + i] = static_cast<float>(static_cast<double>(row[ids[i]]) - outcomes.log_total);
      top.rest[r] = static_cast<float>(outcomes.log_rest);
    }
  });
}

void top_k_distillation_backward(Device& device, const float* student, const TopKDistillationRows& rows, const float* weights,
                                 float* dlogits, double* losses) {
  device.pool.split(rows.rows, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t r = begin; r < end; ++r) {
      losses[r] =
          distillation_row(student + r * rows.vocabulary, rows, r, static_cast<double>(weights[r]), dlogits + r * rows.vocabulary);
    }
  });
}

}  // namespace cpu
}  // namespace puna
#endif
