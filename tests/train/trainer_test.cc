// SPDX-License-Identifier: Apache-2.0
// Whole runs of small models: what they learn, that a stopped run continues bit for bit, and what happens when a step goes wrong.
#include "train/trainer.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <thread>

#include "base/error.h"
#include "base/json.h"
#include "expect_error.h"
#include "model/adapter_file.h"
#include "tensor/safetensors.h"
#include "train/checkpoint_store.h"
#include "train/run_plan.h"
#include "train/spike_watch.h"
#include "train/trainer_fixture.h"

namespace puna {
namespace {

using ::testing::HasSubstr;

TEST_F(TrainerTest, LearnsAndWritesAModelThatLoads) {
  Watcher watcher;
  const RunResult result =
      run(recipe("run", {"watch.evaluate_every=15", "watch.samples=[the cat]", "watch.sample_every=30", "watch.sample_tokens=8"}),
          watcher);
  EXPECT_EQ(result.end, RunEnd::kFinished);
  EXPECT_EQ(result.steps, 30);
  EXPECT_GT(watcher.losses[1], 4.5);  // ln 320 is 5.8
  EXPECT_LT(watcher.losses[30], 0.5 * watcher.losses[1]);
  EXPECT_EQ(watcher.held_out.size(), 2u);
  EXPECT_LT(watcher.held_out[30], watcher.held_out[15]);
  EXPECT_EQ(watcher.samples.size(), 1u);
  const auto checkpoint = open_checkpoint(result.checkpoint);
  EXPECT_EQ(checkpoint->config.layers, 2);
  EXPECT_NE(checkpoint->tokenizer, nullptr);
  verify_checkpoint(result.checkpoint);
  EXPECT_TRUE(fs::exists(path("run") + "/metrics.jsonl"));
  EXPECT_EQ(recipe_text(parse_recipe(bytes_of(path("run") + "/recipe.yaml"), "saved")),
            recipe_text(recipe(
                "run", {"watch.evaluate_every=15", "watch.samples=[the cat]", "watch.sample_every=30", "watch.sample_tokens=8"})));
}

TEST_F(TrainerTest, SaysWhyItDoesNotRunOnAGpu) {
  if (!find_gpus().gpus.empty()) GTEST_SKIP() << "there is one";
  for (const std::string objective : {"next_token", "distillation"}) {
    Watcher watcher;
    expect_error(ErrorKind::kUnsupported, "no GPU can be used", [&] {
      run(recipe("run", {"device=cuda", "objective=" + objective}), watcher);
    });
  }
  EXPECT_FALSE(fs::exists(path("run")));
}

TEST_F(TrainerTest, AStoppedRunContinuesBitForBit) {
  for (const std::string extra : {"optimizer.eight_bit=false", "optimizer.eight_bit=true", "weights=bf16"}) {
    Watcher whole, first, second;
    const RunResult straight = run(recipe("straight", {extra, "steps=12"}), whole);
    first.stop_after = 5;
    const RunResult stopped = run(recipe("stopped", {extra, "steps=12"}), first);
    EXPECT_EQ(stopped.end, RunEnd::kStopped);
    EXPECT_EQ(stopped.steps, 5);
    const RunResult resumed = run(recipe("stopped", {extra, "steps=12"}), second, true);
    EXPECT_EQ(resumed.steps, 12);
    for (std::int64_t step = 1; step <= 12; ++step) {
      const double loss = step <= 5 ? first.losses.at(step) : second.losses.at(step);
      EXPECT_EQ(loss, whole.losses.at(step)) << extra << " step " << step;
    }
    expect_equal_checkpoints(straight.checkpoint, resumed.checkpoint);
    fs::remove_all(path("straight"));
    fs::remove_all(path("stopped"));
  }
}

TEST_F(TrainerTest, CuttingAStepIntoBatchesChangesNothingButRounding) {
  Watcher large, small;
  run(recipe("large", {"batch_tokens=128", "steps=5"}), large);
  run(recipe("small", {"batch_tokens=32", "steps=5"}), small);
  for (std::int64_t step = 1; step <= 5; ++step) EXPECT_NEAR(large.losses.at(step), small.losses.at(step), 1e-4) << step;
}

TEST_F(TrainerTest, AdaptersAndMergedAdaptersAgree) {
  Watcher base, adapters;
  const RunResult start = run(recipe("base"), base);
  write("other.txt", "A quite different text about ships and harbours. " + grammar_text(100, 9));
  const Recipe lora = recipe("lora", {"model=" + start.checkpoint.string(), "tokenizer=", "new_model.layers=0", "lora.rank=4",
                                      "data=[" + path("other.txt") + "]", "steps=10"});
  const RunResult tuned = run(lora, adapters);
  EXPECT_LT(adapters.losses[10], adapters.losses[1]);
  EXPECT_FALSE(fs::exists(tuned.checkpoint / "model.safetensors"));
  // PEFT's layout.
  const SafetensorsFile file(tuned.checkpoint / "adapter_model.safetensors");
  EXPECT_EQ(file.tensors().size(), 2u * 7u * 2u);
  const AdapterFile adapter = read_adapter(tuned.checkpoint);
  EXPECT_EQ(adapter.matrices.size(), 7u * 2u);
  EXPECT_EQ(adapter.matrices.front().scale, 4.0);  // alpha 16 / rank 4
}

TEST_F(TrainerTest, ADamagedCheckpointIsPassedOver) {
  Watcher first, second;
  first.stop_after = 8;
  run(recipe("run", {"steps=12", "watch.checkpoint_every=4"}), first);
  std::fstream(path("run") + "/checkpoints/step-00000008/training_state.bin", std::ios::in | std::ios::out | std::ios::binary)
          .seekp(900)
      << "damage";
  const RunResult result = run(recipe("run", {"steps=12", "watch.checkpoint_every=4"}), second, true);
  ASSERT_FALSE(second.notes.empty());
  EXPECT_THAT(second.notes.front(), HasSubstr("step-00000008 is damaged"));
  EXPECT_EQ(second.losses.begin()->first, 5);
  EXPECT_EQ(result.steps, 12);
}

TEST_F(TrainerTest, ADamagedCheckpointDoesNotCountAmongThoseThatAreKept) {
  Watcher first, second;
  first.stop_after = 8;
  run(recipe("run", {"steps=12", "watch.checkpoint_every=4"}), first);
  std::ofstream(path("run") + "/checkpoints/step-00000008/training_state.bin", std::ios::app) << "damage";
  const RunResult result = run(recipe("run", {"steps=6", "watch.keep=1"}), second, true);
  EXPECT_TRUE(fs::exists(result.checkpoint / "model.safetensors")) << "what was written is gone";
  EXPECT_TRUE(fs::exists(path("run") + "/latest/model.safetensors"));
  EXPECT_TRUE(fs::exists(path("run") + "/checkpoints/damaged-step-00000008"));
}

TEST_F(TrainerTest, ACheckpointOfAStepThatIsThereTakesItsPlace) {
  const CheckpointStore store(path("store"), 1, false);
  CheckpointStore writer = store;
  for (const char* text : {"first", "second"}) {
    writer.write(6, std::nullopt, [&](const fs::path& folder) { std::ofstream(folder / "x") << text; });
    EXPECT_EQ(bytes_of(path("store") + "/step-00000006/x"), text);
    verify_checkpoint(path("store") + "/step-00000006");
    EXPECT_EQ(std::distance(fs::directory_iterator(path("store")), {}), 1) << "something unfinished stays";
  }
}

// As a kill in between would find it: whoever looks while a checkpoint is replaced sees the old one or the new one.
TEST_F(TrainerTest, ACheckpointThatIsReplacedIsNeverGone) {
  const fs::path one = path("one"), other = path("other");
  fs::create_directory(one);
  fs::create_directory(other);
  if (::renameat2(AT_FDCWD, one.c_str(), AT_FDCWD, other.c_str(), RENAME_EXCHANGE) != 0)
    GTEST_SKIP() << "this file system cannot exchange two folders";
  CheckpointStore store(path("store"), 1, false);
  const auto write = [&] { store.write(6, std::nullopt, [](const fs::path& folder) { std::ofstream(folder / "x") << "whole"; }); };
  write();
  std::atomic<bool> done{false};
  std::atomic<std::int64_t> looked{0}, missed{0};
  std::thread reader([&] {
    while (!done) {
      missed += fs::exists(path("store") + "/step-00000006") ? 0 : 1;
      ++looked;
    }
  });
  for (int i = 0; i < 100 || looked < 100; ++i) write();
  done = true;
  reader.join();
  EXPECT_EQ(missed, 0) << "of " << looked;
}

TEST_F(TrainerTest, RowsForValidationThatCannotBeUsedAreFoundBeforeTheFirstStep) {
  write("long.jsonl", "{\"prompt\": \"the cat sees the sun.\", \"completion\": \"" + std::string(2000, 'x') + "\"}\n");
  write("rows.jsonl", "{\"prompt\": \"the cat\", \"completion\": \" sees a tree.\"}\n");
  Watcher watcher;
  try {
    run(recipe("run", {"steps=2", "objective=sft", "reading.plain_strings=true", "data=[" + path("rows.jsonl") + "]",
                       "validation=[" + path("long.jsonl") + "]"}),
        watcher);
    FAIL() << "measured nothing";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("none of its 1 rows can be trained on"));
  }
  EXPECT_TRUE(watcher.losses.empty()) << "trained first";
}

TEST_F(TrainerTest, AnErrorInTheLastMeasurementLosesNothing) {
  write("rows.jsonl", "{\"prompt\": \"the cat\", \"completion\": \" sees a tree.\"}\n");
  write("bad.jsonl", "{\"prompt\": \"the cat\", \"completion\": \" sees a tree.\"}\nbroken\n");
  Watcher watcher;
  EXPECT_THROW(run(recipe("run", {"steps=2", "objective=sft", "reading.plain_strings=true", "reading.strict=true",
                                  "data=[" + path("rows.jsonl") + "]", "validation=[" + path("bad.jsonl") + "]"}),
                   watcher),
               Error);
  EXPECT_EQ(watcher.losses.size(), 2u);
  EXPECT_TRUE(CheckpointStore(path("run") + "/checkpoints", 1, true).newest().has_value());
}

TEST_F(TrainerTest, EpochsEndWithTheDataAndNotBefore) {
  std::string rows;  // each too long for two to share a step
  for (int i = 0; i < 12; ++i) {
    rows +=
        "{\"prompt\": \"the cat sees the sun. a bird likes the grass.\","
        " \"completion\": \" the dog likes a tree. my llama sees a tree.\"}\n";
  }
  write("rows.jsonl", rows);
  Watcher watcher;
  Recipe twice = recipe("run", {"objective=sft", "reading.plain_strings=true", "data=[" + path("rows.jsonl") + "]", "validation=[]",
                                "step_tokens=32"});
  twice.steps = 0;
  twice.epochs = 2;
  const RunResult result = run(twice, watcher);
  EXPECT_EQ(result.steps, 24);
  EXPECT_EQ(watcher.losses.size(), 24u);
}

TEST_F(TrainerTest, StagesChangeLengthMixtureAndRate) {
  Watcher watcher;
  Recipe staged = recipe("run", {"steps=30"});
  staged.steps = 0;
  override_recipe(staged,
                  "stages=[{name: short, steps: 10}, {name: long, steps: 10, sequence_length: 64, rope_theta: 1e6},"
                  " {name: anneal, steps: 5, anneal: true, average: true}]");
  check_recipe(staged);
  const RunResult result = run(staged, watcher);
  EXPECT_EQ(result.steps, 25);
  EXPECT_EQ(open_checkpoint(result.checkpoint)->config.rope_theta, 1e6);
  EXPECT_EQ(open_checkpoint(result.checkpoint)->config.context, 64);
  const RunPlan plan(staged, 0);
  EXPECT_EQ(plan.at(24).learning_rate, 0);
  EXPECT_GT(plan.at(20).learning_rate, plan.at(23).learning_rate);
}

TEST_F(TrainerTest, ARunStoppedInALaterStageContinuesBitForBit) {
  const auto staged = [&](const std::string& out) {
    Recipe recipe =
        this->recipe(out, {"data=[" + path("train.txt") + ", " + path("held.txt") + "]", "data.0.weight=1", "data.1.weight=1"});
    recipe.steps = 0;
    override_recipe(
        recipe,
        "stages=[{name: short, steps: 4}, {name: long, steps: 4, sequence_length: 64, rope_theta: 1e6, data_weights: [1, 3]},"
        " {name: last, steps: 6, anneal: true, average: true}]");
    return recipe;
  };
  Watcher whole, first, second;
  const RunResult straight = run(staged("straight"), whole);
  first.stop_after = 11;
  run(staged("stopped"), first);
  const RunResult resumed = run(staged("stopped"), second, true);
  for (std::int64_t step = 12; step <= 14; ++step) EXPECT_EQ(second.losses.at(step), whole.losses.at(step)) << step;
  expect_equal_checkpoints(straight.checkpoint, resumed.checkpoint);
}

TEST_F(TrainerTest, ARunStoppedAnywhereInAMixtureContinuesBitForBit) {
  const auto staged = [&](const std::string& out) {
    Recipe recipe =
        this->recipe(out, {"data=[" + path("train.txt") + ", " + path("held.txt") + "]", "data.0.weight=1", "data.1.weight=1"});
    recipe.steps = 0;
    override_recipe(recipe,
                    "stages=[{name: even, steps: 3}, {name: odd, steps: 6, data_weights: [1, 3.7]}, {name: last, steps: 2}]");
    return recipe;
  };
  Watcher whole;
  run(staged("straight"), whole);
  for (const std::int64_t stop : {3, 4, 5, 6, 7, 9}) {
    Watcher first, second;
    first.stop_after = stop;
    const std::string out = "stopped" + std::to_string(stop);
    run(staged(out), first);
    run(staged(out), second, true);
    for (std::int64_t step = stop + 1; step <= 11; ++step)
      EXPECT_EQ(second.losses.at(step), whole.losses.at(step)) << stop << ", " << step;
  }
}

TEST_F(TrainerTest, AGateComparesWithTheLossBeforeItsStageTurnedTheFrequencies) {
  const auto held_out_at_40 = [&](const std::string& out, const std::string& stages) {
    Recipe staged = recipe(out, {"optimizer.schedule=constant"});
    staged.steps = 0;
    override_recipe(staged, "stages=[{name: learn, steps: 40}" + stages + "]");
    Watcher watcher;
    run(staged, watcher);
    return watcher.held_out.at(40);
  };
  EXPECT_EQ(held_out_at_40("turned", ", {name: turn, steps: 1, rope_theta: 1.5, gate_loss: 100}"), held_out_at_40("straight", ""));
}

// Rolled back to the border of two stages, the second one's gate compares with the loss at the border again.
TEST_F(TrainerTest, AGateIsMeasuredAgainAfterARollBack) {
  struct Counter : Watcher {
    void evaluated(std::int64_t step, double loss, const Figures& figures) override {
      Watcher::evaluated(step, loss, figures);
      ++times[step];
    }
    std::map<std::int64_t, int> times;
  } watcher;
  Recipe gated = recipe("run", {"watch.on_nan=roll_back", "watch.checkpoint_every=4", "optimizer.clip=0", "optimizer.warmup=0"});
  gated.steps = 0;
  override_recipe(gated, "stages=[{name: first, steps: 4}, {name: second, steps: 4, learning_rate: 1e30, gate_loss: 1}]");
  EXPECT_THROW(run(gated, watcher), Error);
  EXPECT_EQ(std::ranges::count_if(watcher.notes,
                                  [](const std::string& note) { return note.find("back to step 4") != std::string::npos; }),
            3);
  EXPECT_EQ(watcher.times[4], 4) << "once, and after each of three roll-backs";
}

TEST_F(TrainerTest, ARollBackLeavesNoLinesOfTheStepsItTakesAgain) {
  Watcher watcher;
  Recipe explodes = recipe("run", {"watch.on_nan=roll_back", "watch.checkpoint_every=4", "optimizer.clip=0", "optimizer.warmup=0"});
  explodes.steps = 0;
  override_recipe(explodes, "stages=[{name: first, steps: 4}, {name: second, steps: 4, learning_rate: 1e30}]");
  EXPECT_THROW(run(explodes, watcher), Error);
  std::ifstream file(path("run") + "/metrics.jsonl");
  std::int64_t last = 0, faults = 0;
  std::map<std::int64_t, int> trained;
  for (std::string text; std::getline(file, text);) {
    const Json line = parse_json(text, "metrics.jsonl");
    const auto step = line.at("step").get<std::int64_t>();
    EXPECT_GE(step, last) << text;
    last = step;
    if (line.at("kind") == "train") ++trained[step];
    if (line.at("kind") == "fault") ++faults;
  }
  EXPECT_EQ(faults, 4);  // of three roll-backs, and the one that ended the run
  for (const auto& [step, lines] : trained) EXPECT_EQ(lines, 1) << step;
}

TEST_F(TrainerTest, APlanCountsTheAverageOfAStage) {
  Recipe averaged = recipe("run");
  averaged.steps = 0;
  override_recipe(averaged, "stages=[{name: only, steps: 4}]");
  const RunModels of = models(averaged);
  const auto total = [&] { return plan_train_memory(averaged, of, find_objective(averaged.objective)).total(); };
  const std::int64_t without = total();
  averaged.stages.front().average = true;
  std::int64_t values = 0;
  for (const ParameterEntry& entry :
       parameter_entries(of.start->config, train_choice(averaged, of.start->config, find_objective("next_token")), {}))
    values += entry.shape.count();
  EXPECT_GE(total() - without, 4 * values);
  EXPECT_LE(total() - without, 5 * values);
}

TEST_F(TrainerTest, ARunKilledBetweenAStagesLastStepAndItsAverageStillTakesIt) {
  const auto averaged = [&](const std::string& out) {
    Recipe recipe = this->recipe(out, {"watch.checkpoint_every=6"});
    recipe.steps = 0;
    override_recipe(recipe, "stages=[{name: first, steps: 6, average: true}, {name: second, steps: 4}]");
    return recipe;
  };
  Watcher whole, first, second;
  const RunResult straight = run(averaged("straight"), whole);
  first.dies_at_checkpoint = 1;  // the one of step 6, written before the average is taken
  EXPECT_THROW(run(averaged("killed"), first), std::runtime_error);
  const RunResult resumed = run(averaged("killed"), second, true);
  EXPECT_EQ(second.losses.begin()->first, 7);
  EXPECT_EQ(second.losses.at(7), whole.losses.at(7));
  expect_equal_checkpoints(straight.checkpoint, resumed.checkpoint);
}

TEST_F(TrainerTest, AClosedGateStaysClosedWhenTheRunIsResumed) {
  Recipe gated = recipe("run", {});
  gated.steps = 0;
  override_recipe(gated, "stages=[{name: long, steps: 3, sequence_length: 64, gate_needle: 1}, {name: after, steps: 3}]");
  for (const bool resume : {false, true}) {
    Watcher watcher;
    try {
      run(gated, watcher, resume);
      FAIL() << "a model of three steps found needles";
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("stage 'long' did not pass its gate"));
    }
    EXPECT_EQ(watcher.losses.count(4), 0u) << "went on behind the gate";
  }
}

TEST_F(TrainerTest, AGateIsAskedAlsoWhereTheDataEndsBeforeItsStage) {
  Recipe gated = recipe("run", {"reading.at_end=stop", "validation=[]"});
  gated.steps = 0;
  override_recipe(gated, "stages=[{name: long, steps: 1000, sequence_length: 64, gate_needle: 1}]");
  for (const bool resume : {false, true}) {
    Watcher watcher;
    expect_error(ErrorKind::kBadInput, "stage 'long' did not pass its gate: 0 % of the needles",
                 [&] { run(gated, watcher, resume); });
    EXPECT_EQ(watcher.losses.empty(), resume);
  }
  EXPECT_TRUE(CheckpointStore(path("run") + "/checkpoints", 1, true).newest().has_value());
}

TEST_F(TrainerTest, AStageThatTheDataEndsInIsAveraged) {
  const auto averaged = [&](const std::string& out, std::int64_t steps) {
    Recipe recipe = this->recipe(out, {"reading.at_end=stop", "optimizer.schedule=constant"});
    recipe.steps = 0;
    override_recipe(recipe, "stages=[{name: only, steps: " + std::to_string(steps) + ", average: true}]");
    return recipe;
  };
  Watcher first, second;
  const RunResult ended = run(averaged("ended", 1000), first);
  EXPECT_EQ(ended.end, RunEnd::kFinished);
  ASSERT_LT(ended.steps, 1000);
  const RunResult whole = run(averaged("whole", ended.steps), second);
  EXPECT_EQ(second.losses, first.losses);
  EXPECT_TRUE(bytes_of(ended.checkpoint / "model.safetensors") == bytes_of(whole.checkpoint / "model.safetensors"));
}

TEST_F(TrainerTest, ASampleThatCannotBeWrittenDoesNotEndTheRun) {
  struct Notes : Watcher {
    void noted(std::string_view text) override {
      Watcher::noted(text);
      checkpoints_then = checkpoints;
    }
    int checkpoints_then = 0;
  } watcher;
  // More than 40 tokens: too long for the first stage, not for the second.
  Recipe sampled = recipe("run", {"watch.sample_every=2", "watch.sample_tokens=4", "watch.checkpoint_every=2",
                                  "watch.samples=[" + std::string(40, 'x') + "]"});
  sampled.steps = 0;
  override_recipe(sampled, "stages=[{name: short, steps: 2}, {name: long, steps: 2, sequence_length: 64}]");
  EXPECT_EQ(run(sampled, watcher).steps, 4);
  ASSERT_EQ(watcher.notes.size(), 1u);
  EXPECT_THAT(watcher.notes.front(), HasSubstr("step 2: no sample: [context] the prompt has 4"));
  EXPECT_EQ(watcher.checkpoints_then, 1) << "sampled before the checkpoint was written";
  EXPECT_EQ(watcher.samples.size(), 1u);
}

TEST_F(TrainerTest, ASampleThatNoStageCanContinueIsRefusedBeforeTheRun) {
  Watcher watcher;
  const Recipe sampled = recipe("run", {"watch.sample_every=2", "watch.samples=[the cat, " + std::string(40, 'x') + "]"});
  expect_error(ErrorKind::kUsage, "tokens, but a sample has room for 32: shorten it", [&] { run(sampled, watcher); });
  EXPECT_TRUE(watcher.losses.empty());
  EXPECT_FALSE(fs::exists(path("run")));
}

TEST_F(TrainerTest, SpeedCountsEveryRowThatIsComputed) {
  std::string rows;
  for (int i = 0; i < 40; ++i)
    rows += R"({"prompt": "the cat sees the sun. the dog", "completion": " likes a tree."})"
            "\n";
  write("rows.jsonl", rows);
  Watcher watcher;
  run(recipe("run", {"steps=1", "objective=sft", "reading.plain_strings=true", "data=[" + path("rows.jsonl") + "]"}), watcher);
  EXPECT_GT(watcher.rows.at(1), 100) << "a step holds up to 128 rows";
  EXPECT_LT(watcher.tokens.at(1), watcher.rows.at(1) * 2 / 3) << "the prompts are not trained";
}

TEST_F(TrainerTest, AClosedGateEndsTheRunWithNothingLost) {
  Watcher watcher;
  Recipe gated = recipe("run", {"steps=30"});
  gated.steps = 0;
  override_recipe(gated, "stages=[{name: long, steps: 3, sequence_length: 64, gate_needle: 1}]");
  try {
    run(gated, watcher);
    FAIL() << "a model of three steps found needles";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("stage 'long' did not pass its gate: 0 % of the needles"));
  }
  EXPECT_TRUE(CheckpointStore(path("run") + "/checkpoints", 1, true).newest().has_value());
}

TEST_F(TrainerTest, AnExplodingRunStopsAndNamesItsData) {
  Watcher watcher;
  try {
    run(recipe("run", {"optimizer.learning_rate=1e30", "optimizer.clip=0", "optimizer.warmup=0"}), watcher);
    FAIL() << "did not explode";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::AnyOf(HasSubstr("the loss is"), HasSubstr("norm is")));
    EXPECT_THAT(error.what(), HasSubstr("train.txt"));
    EXPECT_THAT(error.what(), HasSubstr("optimizer.learning_rate"));
  }
}

TEST_F(TrainerTest, FoldersOfOtherRunsAreLeftAlone) {
  Watcher watcher;
  fs::create_directories(path("run"));
  write("run/precious", "x");
  try {
    run(recipe("run"), watcher);
    FAIL() << "overwrote a folder";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    EXPECT_THAT(error.what(), HasSubstr("is not empty: go on with --resume"));
  }
  EXPECT_THROW(run(recipe("nothing"), watcher, true), Error);
}

TEST(SpikeWatch, SeesWhatIsFarAboveTheLast) {
  SpikeWatch watch(6);
  for (std::size_t i = 0; i < SpikeWatch::kWindow; ++i) EXPECT_EQ(watch.judge(2 + 0.01 * static_cast<double>(i % 7), 1), "");
  EXPECT_THAT(watch.judge(3, 1), HasSubstr("the loss is 3"));
  EXPECT_THAT(watch.judge(NAN, 1), HasSubstr("the loss is nan"));
  EXPECT_THAT(watch.judge(2, INFINITY), HasSubstr("norm is inf"));
  EXPECT_EQ(watch.judge(2.03, 1), "");
}

}  // namespace
}  // namespace puna
