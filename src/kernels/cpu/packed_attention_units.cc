// SPDX-License-Identifier: Apache-2.0
// Shares the work out: threads take units from one list, the most expensive first, whoever is free. A
// unit's result does not depend on who computes it.
#include <algorithm>
#include <atomic>
#include <utility>
#include <vector>

#include "base/error.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/packed_attention_units.h"

namespace puna {
namespace {

// Query rows in a tile: enough that turning keys is little beside the products, few enough that queries and outputs stay in L2.
constexpr std::int64_t kTileRows = 128;

struct Unit {
  std::int64_t cost;  // products of a query row with a key row
  std::int64_t group;
  std::int64_t begin, count;  // forward: tokens of the segment; backward: members in the list of families
  std::int32_t segment;
};

// The segments in order of their families, each family in the order of the batch.
struct Families {
  std::vector<std::int32_t> first;    // [S] the family's first segment
  std::vector<std::int32_t> members;  // [S]
};

// What a call needs to know of its units; kept, so that a step allocates nothing after the first.
struct Plan {
  std::vector<Unit> units;
  Families families;
  std::vector<float> deltas;  // [T, H]
};

Plan& plan() {
  thread_local Plan kept;
  kept.units.clear();
  return kept;
}

std::int64_t total_rows(std::span<const PackedSegment> segments) {
  return segments.empty() ? 0 : segments.back().first_row + segments.back().rows;
}

template <class Compute>
void compute_units(Device& device, std::vector<Unit>& units, const Compute& compute) {
  std::sort(units.begin(), units.end(), [](const Unit& a, const Unit& b) { return a.cost > b.cost; });
  std::atomic<std::size_t> next = 0;
  device.pool.run([&](int) {
    for (std::size_t i = next++; i < units.size(); i = next++) compute(units[i]);
  });
}

// Rows of keys that token `token` sees.
std::int64_t seen(const PackedSegment& segment, std::int64_t token) { return segment.prefix_rows + token + 1; }

void find_families(std::span<const PackedSegment> segments, Families& families) {
  families.first.resize(segments.size());
  families.members.resize(segments.size());
  for (std::size_t i = 0; i < segments.size(); ++i) {
    families.members[i] = static_cast<std::int32_t>(i);
    families.first[i] = segments[i].prefix_rows == 0
                            ? static_cast<std::int32_t>(i)
                            : families.first[static_cast<std::size_t>(prefix_of(segments, segments[i]) - segments.begin())];
  }
  std::sort(families.members.begin(), families.members.end(), [&](std::int32_t a, std::int32_t b) {
    return std::pair(families.first[static_cast<std::size_t>(a)], a) < std::pair(families.first[static_cast<std::size_t>(b)], b);
  });
}

}  // namespace

namespace cpu {

void packed_attention_forward(Device& device, const PackedRows& rows, std::span<const PackedSegment> segments, float* out,
                              float* log_sum_exp) {
  std::vector<Unit>& units = plan().units;
  const std::int64_t tokens = std::max<std::int64_t>(1, kTileRows * rows.kv_heads / rows.heads);
  for (std::size_t i = 0; i < segments.size(); ++i) {
    for (std::int64_t first = 0; first < segments[i].rows; first += tokens) {
      const std::int64_t count = std::min(tokens, segments[i].rows - first);
      for (std::int64_t g = 0; g < rows.kv_heads; ++g) {
        units.push_back({count * seen(segments[i], first + count - 1), g, first, count, static_cast<std::int32_t>(i)});
      }
    }
  }
  compute_units(device, units, [&](const Unit& unit) {
    attend_packed_tile(
        {&rows, segments[static_cast<std::size_t>(unit.segment)], unit.group, unit.begin, unit.count, out, log_sum_exp});
  });
}

void packed_attention_backward(Device& device, const PackedRows& rows, std::span<const PackedSegment> segments,
                               const PackedAttentionGradient& gradient) {
  Plan& p = plan();
  find_families(segments, p.families);
  const std::vector<std::int32_t>& members = p.families.members;
  for (std::size_t begin = 0, end = 0; begin < members.size(); begin = end) {
    const auto family_of = [&](std::size_t i) { return p.families.first[static_cast<std::size_t>(members[i])]; };
    std::int64_t cost = 0;
    for (end = begin; end < members.size() && family_of(end) == family_of(begin); ++end) {
      const PackedSegment& segment = segments[static_cast<std::size_t>(members[end])];
      cost += segment.rows * (segment.prefix_rows + segment.rows / 2 + 1);
    }
    for (std::int64_t g = 0; g < rows.kv_heads; ++g) {
      p.units.push_back({cost, g, static_cast<std::int64_t>(begin), static_cast<std::int64_t>(end - begin), 0});
    }
  }
  const std::int64_t count = total_rows(segments);
  p.deltas.resize(static_cast<std::size_t>(count * rows.heads));
  float* const deltas = p.deltas.data();
  device.pool.split(count, 16,
                    [&](std::int64_t begin, std::int64_t end, int) { attention_deltas(rows, gradient, begin, end, deltas); });
  compute_units(device, p.units, [&](const Unit& unit) {
    const auto family = std::span(members).subspan(static_cast<std::size_t>(unit.begin), static_cast<std::size_t>(unit.count));
    attend_packed_family({&rows, &gradient, segments, family, unit.group, deltas});
  });
}

}  // namespace cpu
}  // namespace puna
