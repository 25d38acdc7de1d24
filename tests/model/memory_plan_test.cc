// SPDX-License-Identifier: Apache-2.0
#include "model/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <string>

#include "base/error.h"
#include "expect_error.h"
#include "model/kv_cache.h"
#include "model/llama_rank.h"

namespace puna {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr std::int64_t kGiB = std::int64_t{1} << 30;

std::string refusal(const MemoryPlan& plan) {
  try {
    check_fits(plan, "model.gguf");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kNoRoom);
    return error.what();
  }
  return "nothing was refused";
}

TEST(MemoryPlan, AddsUpWhatTheRunHolds) {
  const ModelConfig config = known_shape("8b").value();
  const RunShape run = {.kv_format = Format::kF16, .context = 131072, .rows = 256, .logit_rows = 2};
  const MemoryPlan plan = plan_memory(config, 5 * kGiB, run);
  EXPECT_EQ(plan.weights, 5 * kGiB);
  EXPECT_EQ(plan.kv, 16 * kGiB);  // 32 layers × 2 × 8 heads × 128 wide × 2 bytes × 131072 positions
  EXPECT_EQ(plan.kv_smaller, 16 * kGiB * 34 / 64);
  EXPECT_EQ(plan.logits, 2 * 128256 * 4);
  EXPECT_EQ(plan.activations + plan.logits, LlamaRank::activation_bytes(config, 1, 256, 2, false));
  EXPECT_GT(plan.activations, 0);
  EXPECT_EQ(plan.total(), plan.weights + plan.kv + plan.activations + plan.logits);
  EXPECT_GT(plan.available, 0);
}

// Weights that are in memory have been taken from what is free: asking for them again would ask twice.
TEST(MemoryPlan, WeightsThatAreThereAreNotAskedForAgain) {
  const ModelConfig config = known_shape("1b").value();
  RunShape run = {.kv_format = Format::kF16, .context = 64};
  const std::int64_t free = plan_memory(config, 0, run).available, room = 1000 * kGiB;
  run.resident_bytes = room;
  const MemoryPlan plan = plan_memory(config, room, run);
  EXPECT_NEAR(static_cast<double>(plan.available), static_cast<double>(free + room), static_cast<double>(kGiB));
  EXPECT_TRUE(plan.fits());
}

TEST(MemoryPlan, TheLargestContextFitsAndOnePageMoreDoesNot) {
  const ModelConfig config = known_shape("1b").value();
  RunShape run = {.kv_format = Format::kF16, .context = 64};
  MemoryPlan plan = plan_memory(config, 0, run);
  run.context = plan.largest_context;
  ASSERT_GT(run.context, 0);
  const std::int64_t available = plan.available;
  plan = plan_memory(config, 0, run);
  plan.available = available;  // the machine's own figure moves between two looks
  EXPECT_TRUE(plan.fits());
  run.context += kPagePositions;
  plan = plan_memory(config, 0, run);
  plan.available = available;
  EXPECT_FALSE(plan.fits());
  EXPECT_EQ(plan_memory(config, std::numeric_limits<std::int64_t>::max() / 2, run).largest_context, 0);
}

// 32 layers in stages of 10, 12 and 10: a GPU has at most 12 of them, the machine all.
TEST(MemoryPlan, StagesHoldTheirLayers) {
  const ModelConfig config = known_shape("8b").value();
  RunShape run = {.context = 131072, .rows = 256, .logit_rows = 2, .stages = 3, .stage_layers = 12};
  const MemoryPlan here = plan_memory(config, 16 * kGiB, run);
  EXPECT_EQ(here.kv, 16 * kGiB);
  EXPECT_EQ(here.logits, 2 * 128256 * 4) << "of the last";
  EXPECT_EQ(here.gpus, 0);
  run.gpu_memory = 80'000'000'000;
  const MemoryPlan each = plan_memory(config, 6 * kGiB, run);
  EXPECT_EQ(each.kv, 6 * kGiB);
  EXPECT_EQ(each.gpus, 3);
  run.ranks = 2;
  EXPECT_EQ(plan_memory(config, 3 * kGiB, run).kv, 3 * kGiB);
  EXPECT_EQ(plan_memory(config, 3 * kGiB, run).gpus, 6);
  EXPECT_THAT(plan_memory(config, 3 * kGiB, run).text(), HasSubstr("on each of 6 GPUs"));
}

MemoryPlan long_plan() {
  MemoryPlan plan;
  plan.weights = 5'000'000'000;
  plan.kv = 17'179'869'184;
  plan.kv_smaller = 9'126'805'504;
  plan.activations = 300'000'000;
  plan.context = 131072;
  plan.largest_context = 40000;
  plan.available = 10'500'000'000;
  return plan;
}

TEST(MemoryPlan, SaysWhatWouldFit) {
  MemoryPlan plan = long_plan();
  const std::string message = refusal(plan);
  EXPECT_THAT(message,
              HasSubstr("[model.gguf] this run needs 22.48 GB: 5.00 GB of weights, 17.18 GB for keys and values of 131072 "
                        "positions in f16, 300.0 MB of activations and logits; 10.50 GB are available: use --context 40000"));
  EXPECT_THAT(message, Not(HasSubstr("--kv q8_0"))) << "it would not fit either";
  plan.available = 15'000'000'000;
  EXPECT_THAT(refusal(plan), HasSubstr("use --context 40000 or --kv q8_0"));
  plan.largest_context = 0;
  plan.available = 1'000'000'000;
  EXPECT_THAT(refusal(plan), HasSubstr("1.00 GB are available: free memory, or quantize the weights"));
  plan.available = plan.total();
  EXPECT_NO_THROW(check_fits(plan, "model.gguf"));
}

TEST(MemoryPlan, IsPrintedAsATable) {
  MemoryPlan plan = long_plan();
  EXPECT_EQ(plan.text(),
            "weights          5.00 GB\n"
            "KV cache        17.18 GB  131072 positions in f16\n"
            "activations     300.0 MB\n"
            "logits           0 bytes\n"
            "total           22.48 GB\n"
            "available       10.50 GB  not enough: use --context 40000\n");
  plan.available = 30'000'000'000;
  EXPECT_THAT(plan.text(), HasSubstr("30.00 GB  enough for 40000 positions\n"));
}

// A folder that looks like a system: proc and sys.
class System : public testing::Test {
 protected:
  System() : root_(std::filesystem::temp_directory_path() / ("puna_memory_" + std::to_string(getpid()))) {
    write("proc/meminfo", "MemTotal:       16000000 kB\nMemFree:        1000 kB\nMemAvailable:    8000000 kB\n");
  }
  ~System() override { std::filesystem::remove_all(root_); }

  void write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories((root_ / name).parent_path());
    std::ofstream(root_ / name) << text;
  }

  std::filesystem::path root_;
};

TEST_F(System, WithoutControlGroupsTheMachineRules) {
  EXPECT_EQ(available_memory(root_), 8000000ll * 1024);
  write("proc/self/cgroup", "0::/\n");
  write("sys/fs/cgroup/memory.max", "max\n");
  write("sys/fs/cgroup/memory.current", "5000\n");
  EXPECT_EQ(available_memory(root_), 8000000ll * 1024);
}

TEST_F(System, TheTightestControlGroupRulesAndCachedFilesAreFree) {
  write("proc/self/cgroup", "1:name=systemd:/other\n0::/work/job\n");
  write("sys/fs/cgroup/work/job/memory.max", "max\n");
  write("sys/fs/cgroup/work/job/memory.current", "1\n");
  write("sys/fs/cgroup/work/memory.max", "2000000\n");
  write("sys/fs/cgroup/work/memory.current", "1500000\n");
  EXPECT_EQ(available_memory(root_), 500000);
  write("sys/fs/cgroup/work/memory.stat", "anon 300000\ninactive_file 700000\nactive_file 200000\n");
  EXPECT_EQ(available_memory(root_), 1400000);
  write("sys/fs/cgroup/work/memory.current", "4000000\n");
  EXPECT_EQ(available_memory(root_), 0) << "over its limit";
}

TEST_F(System, WhatIsTakenAtOnceHasToFit) {
  EXPECT_NO_THROW(check_memory(8'192'000'000, "the joined weights", "meta", root_));
  expect_error(ErrorKind::kNoRoom, "[meta] the joined weights need 9.00 GB; 8.19 GB are available: free memory",
               [&] { check_memory(9'000'000'000, "the joined weights", "meta", root_); });
}

TEST(AvailableMemory, IsSomethingHere) {
  EXPECT_GT(available_memory(), 1 << 20);
  EXPECT_LT(available_memory(), std::int64_t{1} << 50);
}

}  // namespace
}  // namespace puna
