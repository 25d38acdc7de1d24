// SPDX-License-Identifier: Apache-2.0
// Training split over GPUs against the same on one: two ranks on one GPU, which sum through the host's memory, and a rank on each
// GPU over NCCL where the machine has several.
#include <array>
#include <string>

#include "gpu/gpu_fixture.h"
#include "train/ranked_learner.h"
#include "train/trainer_fixture.h"

namespace puna {
namespace {

class TrainingOverGpus : public GpuTest {
 protected:
  // Ranks 0, 1, … on the GPUs of these numbers.
  struct GpuTeam {
    explicit GpuTeam(std::span<const int> numbers) {
      std::vector<Gpu*> members;
      for (const int number : numbers) {
        gpus.push_back(std::make_unique<Gpu>(number));
        members.push_back(gpus.back().get());
      }
      if (numbers.size() > 1) team = make_team(members);
      for (std::size_t rank = 0; rank < numbers.size(); ++rank) {
        pools.push_back(std::make_unique<ThreadPool>(1));
        devices.push_back({.pool = *pools.back(), .gpu = members[rank], .team = team.get(), .rank = static_cast<int>(rank)});
      }
    }
    void set_gradient_format(Format format) const {
      for (const auto& gpu : gpus) gpu->library().set_gradient_format(gpu->context(), format);
    }
    std::vector<std::unique_ptr<Gpu>> gpus;
    std::unique_ptr<Team> team;
    std::vector<std::unique_ptr<ThreadPool>> pools;
    std::vector<Device> devices;
  };

  struct Case {
    std::string name;
    Format format = Format::kF32;
    TrainChoice choice = {};
    bool tied = false;
    Keep keep = Keep::kAllActivations;
    std::string objective = "next_token";
    double tolerance = 1e-4;
  };
  static std::vector<Case> cases() {
    const TrainChoice lora{.trained = Trained::kAdapters, .lora = {.rank = 8, .alpha = 6}};
    return {{.name = "untied"},
            {.name = "tied, blocks run again", .tied = true, .keep = Keep::kBlockInputs},
            {.name = "bf16", .choice = {.compute = Format::kBF16}, .tolerance = 4e-2},
            {.name = "lora", .choice = lora},
            {.name = "qlora", .format = Format::kQ8_0, .choice = lora, .tolerance = 3e-2},
            {.name = "dpo", .objective = "dpo", .tolerance = 1e-3},
            {.name = "reward of adapters", .choice = lora, .objective = "reward", .tolerance = 1e-3}};
  }

  static void expect_what_one_does(std::span<const int> numbers) {
    const StepBatches step = step_of({divided_batch(0), divided_batch(1)});
    const GpuTeam alone(numbers.first(1)), team(numbers);
    for (const Case& each : cases()) {
      SCOPED_TRACE(each.name);
      const auto checkpoint = tiny_checkpoint(divided_config(each.tied), each.format);
      if (each.tied) checkpoint->weights.output = checkpoint->weights.token_embedding;
      for (const GpuTeam* const gpus : {&alone, &team}) gpus->set_gradient_format(each.choice.compute);
      RankedLearner one(checkpoint, each.choice, alone.devices, each.keep, each.objective);
      RankedLearner several(checkpoint, each.choice, team.devices, each.keep, each.objective);
      expect_gradients_of_one(several, one, step, each.tolerance);
      EXPECT_EQ(first_difference(*several.whole->view(), *one.whole->view()), "");
      for (int i = 0; i < 3; ++i) {
        one.update(1e-3, one.compute(step).front().norm);
        several.update(1e-3, several.compute(step).front().norm);
      }
      const double want = one.compute(step).front().report.loss;
      EXPECT_NEAR(several.compute(step).front().report.loss, want, each.tolerance * std::fabs(want)) << "after three steps";
    }
  }
};

TEST_F(TrainingOverGpus, TwoRanksOnOneGpu) { expect_what_one_does(std::array{0, 0}); }

TEST_F(TrainingOverGpus, OneOnEachOfTwoGpus) {
  if (find_gpus().gpus.size() < 2) GTEST_SKIP() << "needs two GPUs";
  expect_what_one_does(std::array{0, 1});
}

TEST_F(TrainingOverGpus, OneOnEachOfFourGpus) {
  if (find_gpus().gpus.size() < 4) GTEST_SKIP() << "needs four GPUs";
  expect_what_one_does(std::array{0, 1, 2, 3});
}

class RunsOverGpus : public TrainerTest {
 protected:
  void SetUp() override {
    if (find_gpus().gpus.size() < 2) GTEST_SKIP() << "needs two GPUs";
  }
};

TEST_F(RunsOverGpus, AStoppedRunContinuesBitForBitAndLearnsWhatOneGpuLearns) {
  const std::vector<std::string> options{"steps=6", "optimizer.eight_bit=true", "watch.evaluate_tokens=64", "device=cuda:0,1"};
  std::vector<std::string> of_one = options;
  of_one.back() = "device=cuda";
  Watcher one, whole, first, second;
  run(recipe("one", of_one), one);
  const RunResult straight = run(recipe("straight", options), whole);
  first.stop_after = 2;
  run(recipe("stopped", options), first);
  const RunResult resumed = run(recipe("stopped", options), second, true);
  for (std::int64_t step = 1; step <= 6; ++step) {
    EXPECT_NEAR(whole.losses.at(step), one.losses.at(step), 1e-3) << step;
    if (step > 2) {
      EXPECT_EQ(second.losses.at(step), whole.losses.at(step)) << step;
    }
  }
  expect_equal_checkpoints(straight.checkpoint, resumed.checkpoint);
}

}  // namespace
}  // namespace puna
