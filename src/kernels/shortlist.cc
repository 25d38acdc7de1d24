// SPDX-License-Identifier: Apache-2.0
// Shortlists of columns side by side, as the ranks of a team have them.
#include "kernels/shortlist.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>

namespace puna {
namespace {

struct Entry {
  std::int32_t id;
  float logit;
};

bool is_before(const Entry& a, const Entry& b) { return a.logit > b.logit || (a.logit == b.logit && a.id < b.id); }

float largest(const Shortlist& list) {
  return list.count == 0 ? -std::numeric_limits<float>::infinity() : *std::ranges::max_element(list.values());
}

// exp(s) of a logit beside the largest one.
double weight(float logit, float peak, float inverse_temperature) {
  return std::exp(static_cast<double>((logit - peak) * inverse_temperature));
}

}  // namespace

float Shortlist::border() const {
  return count < kShortlist ? -std::numeric_limits<float>::infinity() : *std::ranges::min_element(values());
}

void join_shortlists(Shortlist& found, const Shortlist& next, float inverse_temperature) {
  std::array<Entry, 2 * kShortlist> entries;
  auto end = entries.begin();
  for (std::int32_t i = 0; i < found.count; ++i) *end++ = {found.ids[i], found.logits[i]};
  for (std::int32_t i = 0; i < next.count; ++i) *end++ = {found.width + next.ids[i], next.logits[i]};
  const auto kept = entries.begin() + std::min<std::ptrdiff_t>(kShortlist, end - entries.begin());
  if (kept != end) std::nth_element(entries.begin(), kept, end, is_before);
  std::sort(entries.begin(), kept, [](const Entry& a, const Entry& b) { return a.id < b.id; });

  const float peak = std::max(largest(found), largest(next));
  double rest = 0;
  for (const Shortlist* const part : {static_cast<const Shortlist*>(&found), &next}) {
    if (part->count > 0) rest += part->rest * weight(largest(*part), peak, inverse_temperature);
  }
  for (auto entry = kept; entry != end; ++entry) rest += weight(entry->logit, peak, inverse_temperature);
  found.rest = rest;
  found.margin = 0;
  found.count = static_cast<std::int32_t>(kept - entries.begin());
  found.width += next.width;
  found.drawn = -1;
  for (std::int32_t i = 0; i < found.count; ++i) {
    found.ids[i] = entries[static_cast<std::size_t>(i)].id;
    found.logits[i] = entries[static_cast<std::size_t>(i)].logit;
  }
}

}  // namespace puna
