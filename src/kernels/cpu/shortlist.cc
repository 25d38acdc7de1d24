// SPDX-License-Identifier: Apache-2.0
// Shortlists on the CPU. A row belongs to one thread. Few numbers of a row are above the least of the largest ones so far, so most
// blocks of it are passed over at a glance.
#include "kernels/shortlist.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/shortlist.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/softmax_inl.h"

HWY_BEFORE_NAMESPACE();
namespace puna {
namespace HWY_NAMESPACE {
namespace {

// Fills in the list. Those that are above all that the kept ones left out are gathered until there is no room, then cut.
void choose(const float* row, std::int64_t width, Shortlist& list) {
  constexpr std::int64_t kBlock = 64;
  std::array<std::int32_t, 4 * kShortlist> ids;
  auto end = ids.begin();
  float floor = -std::numeric_limits<float>::infinity();
  const auto cut = [&] {
    const auto is_before = [&](std::int32_t a, std::int32_t b) { return row[a] > row[b] || (row[a] == row[b] && a < b); };
    if (end - ids.begin() <= kShortlist) return;
    std::nth_element(ids.begin(), ids.begin() + kShortlist - 1, end, is_before);
    end = ids.begin() + kShortlist;
    floor = row[end[-1]];
  };
  for (std::int64_t block = 0; block < width; block += kBlock) {
    const std::int64_t next = std::min(block + kBlock, width);
    int above = 0;  // without a branch, so in vectors; NaN is not above anything
    for (std::int64_t v = block; v < next; ++v) above |= row[v] > floor ? 1 : 0;
    if (above == 0) continue;
    for (std::int64_t v = block; v < next; ++v) {
      if (row[v] > floor) *end++ = static_cast<std::int32_t>(v);
    }
    if (ids.end() - end < kBlock) cut();
  }
  cut();
  std::sort(ids.begin(), end);
  list.count = static_cast<std::int32_t>(end - ids.begin());
  list.width = static_cast<std::int32_t>(width);
  for (std::int32_t i = 0; i < list.count; ++i) {
    list.ids[i] = ids[static_cast<std::size_t>(i)];
    list.logits[i] = row[list.ids[i]];
  }
}

double sum_of_exp_of(const float* values, std::int64_t count, float shift, float factor) {
  return sum_of_exp(values, count, shift, factor);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace puna
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace puna {
namespace {
HWY_EXPORT(choose);
HWY_EXPORT(sum_of_exp_of);
}  // namespace

namespace cpu {
namespace {

// Over the runs of numbers between those of the list.
template <class Sum>
double rest_of(const Shortlist& list, const Sum& sum) {
  double rest = 0;
  std::int64_t begin = 0;
  for (const std::int32_t id : list.tokens()) {
    if (id > begin) rest += sum(begin, id);
    begin = id + 1;
  }
  return begin < list.width ? rest + sum(begin, list.width) : rest;
}

// w of the numbers of a row, one at a time.
struct Weights {
  const float* row;
  float peak, inverse_temperature;

  double operator()(std::int64_t v) const {
    const float scaled = (row[v] - peak) * inverse_temperature;
    return scaled <= 0 ? std::exp(static_cast<double>(scaled)) : 0;
  }
  double sum(std::int64_t begin, std::int64_t end) const {
    double sum = 0;
    for (std::int64_t v = begin; v < end; ++v) sum += (*this)(v);
    return sum;
  }
};

// Sums of pieces tell the piece where the sum passes t, and that one is summed again, up to there.
void draw(const Weights& weight, double uniform, Shortlist& found) {
  std::array<double, 256> sums;
  const std::int64_t width = found.width, piece = (width + 255) / 256;
  double mass = 0;
  for (std::int64_t i = 0; i < 256; ++i)
    mass += sums[static_cast<std::size_t>(i)] = weight.sum(std::min(i * piece, width), std::min((i + 1) * piece, width));
  const double target = uniform * mass;
  double before = 0;
  std::int64_t v = 0;
  for (std::size_t i = 0; v + piece < width && !(target < before + sums[i]); ++i, v += piece) before += sums[i];
  double own = weight(v);
  for (; v + 1 < width && !(target < before + own); own = weight(++v)) before += own;
  found.drawn = static_cast<std::int32_t>(v);
  found.margin = std::min(target - before, before + own - target) / mass;
}

}  // namespace

void shortlist_rows(Device& device, const LogitColumns& columns, const RowDraw* draws, Shortlist* found) {
  device.pool.split(columns.rows, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t r = begin; r < end; ++r) {
      const float* const row = columns.logits + r * columns.stride;
      const RowDraw& wanted = draws[r];
      Shortlist& list = found[r];
      HWY_DYNAMIC_DISPATCH(choose)(row, columns.width, list);
      list.rest = list.margin = 0;
      list.drawn = -1;
      if (list.count == 0) continue;
      const Weights weight{row, *std::ranges::max_element(list.values()), wanted.inverse_temperature};
      list.rest = rest_of(list, [&](std::int64_t first, std::int64_t last) {
        return HWY_DYNAMIC_DISPATCH(sum_of_exp_of)(row + first, last - first, weight.peak, weight.inverse_temperature);
      });
      if (std::isnan(list.rest)) list.rest = rest_of(list, [&](std::int64_t v, std::int64_t last) { return weight.sum(v, last); });
      if (wanted.uniform >= 0) draw(weight, wanted.uniform, list);
    }
  });
}

}  // namespace cpu
}  // namespace puna
#endif
