// SPDX-License-Identifier: Apache-2.0
// A thread's memory for kernels: it grows to the largest need seen and stays, so a step allocates nothing after the first.
#pragma once

#include <hwy/aligned_allocator.h>

#include <cstdint>
#include <initializer_list>
#include <new>

namespace puna {

class AlignedRoom {
 public:
  // Sets each part to the beginning of its own `count` floats, aligned to whole cache lines. What was there before is lost.
  struct Part {
    float** begin;
    std::int64_t count;
  };
  void divide(std::initializer_list<Part> parts) {
    const auto whole_lines = [](std::int64_t count) { return (count + 15) / 16 * 16; };
    std::int64_t total = 0;
    for (const Part& part : parts) total += whole_lines(part.count);
    if (total > capacity_) {
      capacity_ = 0;
      memory_ = hwy::AllocateAligned<float>(static_cast<std::size_t>(total));
      if (!memory_) throw std::bad_alloc();
      capacity_ = total;
    }
    float* next = memory_.get();
    for (const Part& part : parts) {
      *part.begin = next;
      next += whole_lines(part.count);
    }
  }

 private:
  hwy::AlignedFreeUniquePtr<float[]> memory_;
  std::int64_t capacity_ = 0;
};

}  // namespace puna
