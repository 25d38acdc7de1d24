// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/attention_scratch.h"

#include <algorithm>
#include <limits>

#include "kernels/cpu/aligned_room.h"
#include "kernels/kv_pages.h"

namespace puna {

AttentionScratch& attention_scratch(std::int64_t rows, std::int64_t width, std::int64_t padded_width) {
  thread_local AlignedRoom room;
  thread_local AttentionScratch scratch;
  room.divide({{&scratch.queries, rows * width},
               {&scratch.outputs, rows * padded_width},
               {&scratch.sums, rows * AttentionScratch::kLanes},
               {&scratch.maxima, rows},
               {&scratch.keys, width * kPagePositions},
               {&scratch.values, kPagePositions * padded_width}});
  scratch.padded_width = padded_width;
  std::fill(scratch.outputs, scratch.maxima, 0.0f);  // outputs and sums lie side by side
  std::fill(scratch.maxima, scratch.maxima + rows, -std::numeric_limits<float>::infinity());
  return scratch;
}

}  // namespace puna
