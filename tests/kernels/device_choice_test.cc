// SPDX-License-Identifier: Apache-2.0
// The names of devices, one or several, and what is said of names that are none.
#include <gtest/gtest.h>

#include "expect_error.h"
#include "kernels/gpu.h"

namespace puna {
namespace {

TEST(DeviceChoice, NamesOfOneAndOfSeveral) {
  const auto gpus = [](std::string_view device) { return device_choice(device, "--device").gpus; };
  EXPECT_TRUE(gpus("cpu").empty());
  EXPECT_EQ(device_choice("cpu", "--device").cpu_ranks, 1);
  EXPECT_EQ(device_choice("cpu:4", "--device").cpu_ranks, 4);
  EXPECT_TRUE(gpus("cpu:4").empty());
  EXPECT_EQ(gpus("cuda"), std::vector<int>{0});
  EXPECT_EQ(gpus("cuda:3"), std::vector<int>{3});
  EXPECT_EQ(gpus("cuda:2,0"), (std::vector<int>{2, 0}));
  EXPECT_EQ(gpus("cuda:0-3"), (std::vector<int>{0, 1, 2, 3}));
  EXPECT_EQ(gpus("cuda:0-1,4,6-7"), (std::vector<int>{0, 1, 4, 6, 7}));
}

TEST(DeviceChoice, WrongNamesSayWhatWasExpected) {
  const auto refused = [](std::string_view device, std::string_view message) {
    expect_error(ErrorKind::kUsage, message, [&] { device_choice(device, "--device"); });
  };
  refused("gpu", "[--device] 'gpu' is no device, expected cpu, cuda or cuda:N");
  refused("cudo", "did you mean cuda?");
  for (const char* const list :
       {"cuda:", "cuda:0-", "cuda:-1", "cuda:3-1", "cuda:0,", "cuda:,1", "cuda:x", "cuda:0 1", "cuda:0-999"})
    refused(list,
            std::string("'") + list + "': expected numbers of GPUs behind cuda:, as in cuda:1, cuda:0,2 or cuda:0-3, or cuda:all");
  refused("cuda:0,0", "'cuda:0,0' names GPU 0 twice: each holds one share of the model");
  refused("cuda:0-3,2", "names GPU 2 twice");
  for (const char* const ranks : {"cpu:", "cpu:0", "cpu:-2", "cpu:two", "cpu:256"})
    refused(ranks, "expected a number of ranks behind cpu:, from 1 to 255");
}

}  // namespace
}  // namespace puna
