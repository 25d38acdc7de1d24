// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/attention_scratch.h"

#include <hwy/aligned_allocator.h>

#include <algorithm>
#include <limits>
#include <new>

#include "kernels/kv_pages.h"

namespace puna {

AttentionScratch& attention_scratch(std::int64_t rows, std::int64_t width, std::int64_t padded_width) {
  thread_local hwy::AlignedFreeUniquePtr<float[]> memory;
  thread_local std::int64_t capacity = 0;
  thread_local AttentionScratch scratch;

  const auto whole_lines = [](std::int64_t count) { return (count + 15) / 16 * 16; };
  const std::int64_t sizes[] = {
      whole_lines(rows * width), whole_lines(rows * padded_width), rows * AttentionScratch::kLanes,
      whole_lines(rows),         width * kPagePositions,           kPagePositions * padded_width,
  };
  std::int64_t total = 0;
  for (const std::int64_t size : sizes) total += size;
  if (total > capacity) {
    memory = hwy::AllocateAligned<float>(static_cast<std::size_t>(total));
    capacity = memory ? total : 0;
    if (!memory) throw std::bad_alloc();
  }
  float* next = memory.get();
  float** const parts[] = {&scratch.queries, &scratch.outputs, &scratch.sums, &scratch.maxima, &scratch.keys, &scratch.values};
  for (int i = 0; i < 6; ++i) {
    *parts[i] = next;
    next += sizes[i];
  }
  scratch.padded_width = padded_width;
  std::fill(scratch.outputs, scratch.maxima, 0.0f);  // outputs and sums lie side by side
  std::fill(scratch.maxima, scratch.maxima + rows, -std::numeric_limits<float>::infinity());
  return scratch;
}

}  // namespace puna
