// SPDX-License-Identifier: Apache-2.0
#include "kernels/device.h"

#include "base/error.h"
#include "kernels/cpu/targets.h"

#include <hwy/targets.h>

#include <cstdint>

namespace puna {

std::string instruction_set() {
  const std::int64_t targets = hwy::SupportedTargets() & HWY_TARGETS;
  if (targets == 0) {
    fail(ErrorKind::kUnsupported, "device",
         "this processor lacks SSE4.2 and AES instructions: Puna needs an x86-64 processor of 2010 or later");
  }
  return hwy::TargetName(targets & -targets);  // the lowest bit is the best target
}

}  // namespace puna
