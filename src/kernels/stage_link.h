// SPDX-License-Identifier: Apache-2.0
// The way from a stage of a network to the next one (model/stages.h). The sender and the receiver are threads with a device each,
// which meet at the link: x [count] of the one becomes x [count] of the other, bit for bit. Within one machine GPUs copy from
// memory to memory where its links allow it, else through the host's; the CPU's ranks have one memory.
#pragma once

#include <cstdint>
#include <exception>

#include "base/barrier.h"
#include "kernels/device.h"

namespace puna {

class StageLink {
 public:
  // The sender's part: x, of `from`'s memory, may be changed when this returns. On GPUs the copy is queued behind what was asked
  // for on both, so neither thread waits for it.
  void give(const Device& from, const float* x);
  // The receiver's: x of `to`'s memory.
  void take(const Device& to, float* x, std::int64_t count);
  // One of the two has failed: the other, which waits for it or is going to, fails with the same error. The first one stays.
  void break_with(const std::exception_ptr& error) { barrier_.break_with(error); }
  // As new; nobody may be in give() or take().
  void mend() { barrier_.mend(); }

 private:
  Barrier barrier_{2};
  const Device* from_ = nullptr;  // of the give() that goes on
  const float* x_ = nullptr;
};

}  // namespace puna
