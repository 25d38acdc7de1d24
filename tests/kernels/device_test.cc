// SPDX-License-Identifier: Apache-2.0
#include "kernels/device.h"

#include "every_target.h"

#include <set>
#include <string>

namespace puna {
namespace {

TEST(Device, NamesTheInstructionSetInUse) {
  std::set<std::string> names;
  on_every_target([&] { names.insert(instruction_set()); });
  EXPECT_EQ(names.size(), hwy::SupportedAndGeneratedTargets().size());
  EXPECT_TRUE(names.count(instruction_set())) << instruction_set();
}

}  // namespace
}  // namespace puna
