// SPDX-License-Identifier: Apache-2.0
// Two meetings for each x: one before which it is there, one behind which it has been taken.
#include "kernels/stage_link.h"

#include <algorithm>

#include "base/as_size.h"
#include "kernels/gpu.h"

namespace puna {

void StageLink::give(const Device& from, const float* x) {
  from_ = &from;
  x_ = x;
  barrier_.wait();
  barrier_.wait();
}

void StageLink::take(const Device& to, float* x, std::int64_t count) {
  barrier_.wait();
  if (to.gpu == nullptr) {
    std::copy_n(x_, count, x);
  } else {
    to.gpu->library().copy_between(from_->gpu->context(), x_, to.gpu->context(), x, as_size(count) * sizeof(float));
  }
  barrier_.wait();
}

}  // namespace puna
