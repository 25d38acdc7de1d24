// SPDX-License-Identifier: Apache-2.0
#include "kernels/packed_attention.h"

#include <algorithm>

namespace puna {

std::span<const PackedSegment>::iterator prefix_of(std::span<const PackedSegment> segments, const PackedSegment& segment) {
  return std::lower_bound(segments.begin(), segments.end(), segment.prefix_row,
                          [](const PackedSegment& s, std::int64_t row) { return s.first_row < row; });
}

}  // namespace puna
