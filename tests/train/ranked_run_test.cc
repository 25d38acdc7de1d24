// SPDX-License-Identifier: Apache-2.0
// Whole runs split over ranks of the CPU: they learn what one device learns, write what it writes, and continue bit for bit.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "base/error.h"
#include "expect_error.h"
#include "model/adapter_file.h"
#include "tensor/safetensors.h"
#include "train/run_devices.h"
#include "train/run_plan.h"
#include "train/trainer_fixture.h"

namespace puna {
namespace {

using ::testing::HasSubstr;

class RankedRun : public TrainerTest {
 protected:
  // Four key/value heads, which two and four ranks divide, and blocks of 32 that they do not divide equally.
  Recipe ranked(const std::string& out, const std::string& device, std::vector<std::string> overrides = {}) const {
    std::vector<std::string> all = {"device=" + device, "new_model.kv_heads=4", "new_model.feed_forward=160", "steps=12",
                                    "watch.evaluate_tokens=64"};
    all.insert(all.end(), overrides.begin(), overrides.end());
    return recipe(out, all);
  }
  static std::vector<std::string> over(const std::string& model) { return {"model=" + model, "tokenizer=", "new_model.layers=0"}; }
};

// The largest distance of two files' tensors, relative to each tensor's norm.
double distance_of_files(const fs::path& a, const fs::path& b) {
  const SafetensorsFile one(a), other(b);
  EXPECT_EQ(one.tensors().size(), other.tensors().size());
  double largest = 0;
  for (std::size_t i = 0; i < one.tensors().size(); ++i) {
    const Tensor &x = one.tensors()[i], &y = other.tensors()[i];
    EXPECT_EQ(x.name, y.name);
    EXPECT_EQ(x.shape, y.shape) << x.name;
    std::vector<float> left(static_cast<std::size_t>(x.shape.row_length())), right(left.size());
    double difference = 0, norm = 0;
    for (std::int64_t n = 0; n < x.shape.rows(); ++n) {
      decode_row(x, n, left.data());
      decode_row(y, n, right.data());
      for (std::size_t k = 0; k < left.size(); ++k) {
        difference += std::pow(static_cast<double>(left[k]) - static_cast<double>(right[k]), 2);
        norm += std::pow(static_cast<double>(right[k]), 2);
      }
    }
    largest = std::max(largest, std::sqrt(difference / norm));
  }
  return largest;
}

void expect_near_losses(const Watcher& found, const Watcher& expected, double tolerance) {
  ASSERT_EQ(found.losses.size(), expected.losses.size());
  for (const auto& [step, loss] : expected.losses) {
    EXPECT_NEAR(found.losses.at(step), loss, tolerance * loss) << "step " << step;
    EXPECT_NEAR(found.norms.at(step), expected.norms.at(step), 100 * tolerance * expected.norms.at(step)) << "step " << step;
  }
  for (const auto& [step, loss] : expected.held_out) EXPECT_NEAR(found.held_out.at(step), loss, tolerance * loss) << step;
}

TEST_F(RankedRun, LearnsWhatOneDeviceLearnsAndWritesWhatItWrites) {
  for (const std::string tied : {"true", "false"}) {
    const std::vector<std::string> options{"new_model.tied_embeddings=" + tied, "watch.evaluate_every=6", "watch.samples=[the cat]",
                                           "watch.sample_every=12", "watch.sample_tokens=4"};
    Watcher of_one;
    const RunResult one = run(ranked("one-" + tied, "cpu", options), of_one);
    for (const std::string device : {"cpu:2", "cpu:4"}) {
      SCOPED_TRACE(device + ", tied " + tied);
      Watcher of_ranks;
      const RunResult several = run(ranked(device + tied, device, options), of_ranks);
      expect_near_losses(of_ranks, of_one, 2e-5);
      EXPECT_EQ(of_ranks.samples, of_one.samples);
      EXPECT_LT(distance_of_files(several.checkpoint / "model.safetensors", one.checkpoint / "model.safetensors"), 1e-3);
      EXPECT_EQ(fs::file_size(several.checkpoint / "training_state.bin"), fs::file_size(one.checkpoint / "training_state.bin"));
      EXPECT_EQ(open_checkpoint(several.checkpoint)->config.kv_heads, 4);
    }
  }
}

TEST_F(RankedRun, AStoppedRunContinuesBitForBit) {
  for (const std::string device : {"cpu:2", "cpu:4"}) {
    for (const std::string extra : {"optimizer.eight_bit=false", "optimizer.eight_bit=true", "weights=bf16"}) {
      SCOPED_TRACE(device + ", " + extra);
      Watcher whole, first, second;
      const std::vector<std::string> options{extra, "steps=8"};
      const RunResult straight = run(ranked("straight", device, options), whole);
      first.stop_after = 3;
      EXPECT_EQ(run(ranked("stopped", device, options), first).end, RunEnd::kStopped);
      const RunResult resumed = run(ranked("stopped", device, options), second, true);
      for (std::int64_t step = 1; step <= 8; ++step) {
        const double loss = step <= 3 ? first.losses.at(step) : second.losses.at(step);
        EXPECT_EQ(loss, whole.losses.at(step)) << "step " << step;
      }
      expect_equal_checkpoints(straight.checkpoint, resumed.checkpoint);
      fs::remove_all(path("straight"));
      fs::remove_all(path("stopped"));
    }
  }
}

// The states are one device's, so any number of devices can go on with them.
TEST_F(RankedRun, AnyNumberOfDevicesGoesOnWithWhatAnotherWrote) {
  Watcher whole;
  run(ranked("whole", "cpu"), whole);
  for (const auto& [before, after] : std::vector<std::pair<std::string, std::string>>{{"cpu", "cpu:4"}, {"cpu:4", "cpu:2"}}) {
    SCOPED_TRACE(before + " to " + after);
    Watcher first, second;
    first.stop_after = 6;
    run(ranked("moved" + after, before), first);
    run(ranked("moved" + after, after), second, true);
    for (std::int64_t step = 7; step <= 12; ++step) EXPECT_NEAR(second.losses.at(step), whole.losses.at(step), 1e-4) << step;
  }
}

TEST_F(RankedRun, MomentsInEightBitsBelongToTheNumberOfDevices) {
  const std::vector<std::string> eight_bit{"optimizer.eight_bit=true", "steps=4"};
  Watcher first, second;
  first.stop_after = 2;
  run(ranked("run", "cpu:2", eight_bit), first);
  expect_error(ErrorKind::kBadInput, "was written by another number of devices, which optimizer.eight_bit ties a run to",
               [&] { run(ranked("run", "cpu:4", eight_bit), second, true); });
}

TEST_F(RankedRun, AveragesOfStagesAreThoseOfOneDevice) {
  const auto staged = [&](const std::string& device) {
    Recipe recipe = ranked("staged-" + device, device);
    recipe.steps = 0;
    override_recipe(
        recipe, "stages=[{name: first, steps: 4, average: true}, {name: longer, steps: 3, sequence_length: 64, rope_theta: 1e6}]");
    return recipe;
  };
  Watcher of_one, of_ranks;
  const RunResult one = run(staged("cpu"), of_one), several = run(staged("cpu:2"), of_ranks);
  expect_near_losses(of_ranks, of_one, 2e-5);
  EXPECT_LT(distance_of_files(several.checkpoint / "model.safetensors", one.checkpoint / "model.safetensors"), 1e-3);
}

TEST_F(RankedRun, AdaptersAreThoseOfOneDevice) {
  Watcher base;
  const std::string start = run(ranked("base", "cpu"), base).checkpoint.string();
  const auto lora = [&](const std::string& device) {
    std::vector<std::string> options = over(start);
    options.insert(options.end(), {"device=" + device, "lora.rank=4", "steps=6", "watch.evaluate_tokens=64"});
    return recipe("lora-" + device, options);
  };
  Watcher of_one;
  const RunResult one = run(lora("cpu"), of_one);
  for (const std::string device : {"cpu:2", "cpu:4"}) {
    SCOPED_TRACE(device);
    Watcher of_ranks;
    const RunResult several = run(lora(device), of_ranks);
    expect_near_losses(of_ranks, of_one, 2e-5);
    EXPECT_EQ(read_adapter(several.checkpoint).matrices.size(), 7u * 2u);
    EXPECT_LT(distance_of_files(several.checkpoint / "adapter_model.safetensors", one.checkpoint / "adapter_model.safetensors"),
              1e-2);
  }
}

TEST_F(RankedRun, PreferencesAreLearnedAsOnOneDevice) {
  std::string pairs;
  for (std::uint64_t i = 0; i < 40; ++i) {
    const std::string sentence = grammar_text(1, 100 + i), good = sentence.substr(0, sentence.size() - 1);
    pairs += fmt::format(R"({{"prompt": "the", "chosen": " {}", "rejected": " {} and and"}})", good, good.substr(0, 9)) + "\n";
  }
  write("pairs.jsonl", pairs);
  Watcher base;
  const std::string start = run(ranked("base", "cpu"), base).checkpoint.string();
  const auto preferences = [&](const std::string& out, const std::string& device, const std::string& objective,
                               const std::vector<std::string>& more) {
    std::vector<std::string> options = over(start);
    options.insert(options.end(), {"device=" + device, "objective=" + objective, "reading.plain_strings=true", "steps=5",
                                   "optimizer.learning_rate=1e-3", "data=[" + path("pairs.jsonl") + "]",
                                   "validation=[" + path("pairs.jsonl") + "]", "watch.evaluate_tokens=64"});
    options.insert(options.end(), more.begin(), more.end());
    return recipe(out + device, options);
  };
  const std::vector<std::pair<std::string, std::vector<std::string>>> cases{{"dpo", {}},
                                                                            {"dpo", {"dpo.precompute_reference=true"}},
                                                                            {"dpo", {"lora.rank=4"}},
                                                                            {"reward", {}},
                                                                            {"reward", {"lora.rank=4"}}};
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const auto& [objective, more] = cases[i];
    Watcher of_one;
    run(preferences(std::to_string(i), "cpu", objective, more), of_one);
    for (const std::string device : {"cpu:2", "cpu:4"}) {
      SCOPED_TRACE(objective + " " + (more.empty() ? "" : more.front()) + ", " + device);
      Watcher of_ranks;
      run(preferences(std::to_string(i), device, objective, more), of_ranks);
      expect_near_losses(of_ranks, of_one, 1e-4);
    }
  }
}

TEST_F(RankedRun, ThePlanCountsAllRanks) {
  const auto plan = [&](const std::string& device) {
    const Recipe recipe = ranked("plan", device);
    return plan_train_memory(recipe, models(recipe), find_objective(recipe.objective));
  };
  const auto part = [](const TrainMemory& memory, std::string_view name) {
    const auto found = std::ranges::find(memory.parts, name, &std::pair<std::string, std::int64_t>::first);
    return found == memory.parts.end() ? 0 : found->second;
  };
  const TrainMemory one = plan("cpu"), four = plan("cpu:4");
  EXPECT_GE(part(four, "optimizer"), part(one, "optimizer"));
  EXPECT_LT(part(four, "optimizer"), 1.2 * static_cast<double>(part(one, "optimizer"))) << "parts and norms, not copies";
  EXPECT_GT(part(four, "activations"), part(one, "activations")) << "each rank has the residual stream";
  EXPECT_EQ(part(one, "copy while it saves"), 0);
  EXPECT_GT(part(four, "copy while it saves"), 0);
}

TEST_F(RankedRun, RefusesWhatDoesNotSplit) {
  const auto refused = [&](const Recipe& recipe, std::string_view message) {
    Watcher watcher;
    expect_error(ErrorKind::kUnsupported, message, [&] { run(recipe, watcher); });
    EXPECT_FALSE(fs::exists(recipe.out));
  };
  refused(ranked("run", "cpu:3"), "do not split over 3 devices: use 1 or 2, 4");
  refused(ranked("run", "cpu:2", {"objective=distillation"}),
          "distillation runs on one device, give cpu, cuda or cuda:N; on several run next_token, sft, reward, dpo");
  if (find_gpus().gpus.empty()) refused(ranked("run", "cuda:0,1"), "no GPU can be used");
}

// A loss that is not a number is found by all ranks together; what one of them meets alone ends all of them.
TEST_F(RankedRun, AFailingRankEndsTheOthers) {
  const Recipe recipe = ranked("run", "cpu:2");
  RunDevices devices(recipe, pool_);
  std::vector<float> x{1};
  EXPECT_THROW(devices.each([&](int rank) {
    if (rank == 1) throw std::runtime_error("out of memory");
    sum_over_ranks(devices[rank], x.data(), 1);
  }),
               std::runtime_error);
  std::vector<std::vector<double>> all(2, std::vector<double>(2));
  const double sum = devices.each([&](int rank) {
    const double own = rank + 1;
    gather_over_ranks(devices[rank], {&own, 1}, all[static_cast<std::size_t>(rank)]);
    return all[static_cast<std::size_t>(rank)][0] + all[static_cast<std::size_t>(rank)][1];
  });
  EXPECT_EQ(sum, 3);
  EXPECT_EQ(all[1], all[0]);
}

}  // namespace
}  // namespace puna
