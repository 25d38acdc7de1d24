// SPDX-License-Identifier: Apache-2.0
// Runs a check on every instruction set this processor has, and makes numbers for it.
#pragma once

#include "kernels/cpu/targets.h"

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <cstdint>
#include <vector>

#include "base/random.h"

namespace puna {

template <typename Check>
void on_every_target(Check&& check) {
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    SCOPED_TRACE(hwy::TargetName(target));
    hwy::SetSupportedTargetsForTest(target);
    check();
  }
  hwy::SetSupportedTargetsForTest(0);
}

// [count] values, normal with the given spread.
inline std::vector<float> normal_values(std::int64_t count, std::uint64_t stream, double spread = 1) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(spread * random_normal(7, stream, i));
  return values;
}

}  // namespace puna
