// SPDX-License-Identifier: Apache-2.0
// Whole runs on preferences: a reference that is asked once is the same reference, and rows whose answers see each other continue
// bit for bit too.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/interrupted.h"
#include "expect_error.h"
#include "model/tiny_checkpoint.h"
#include "train/data/packing.h"
#include "train/network.h"
#include "train/objectives/answers.h"
#include "train/reference_log_probs.h"
#include "train/trainer_fixture.h"

namespace puna {
namespace {

using ::testing::HasSubstr;

// Whole sentences are better than broken ones.
std::string pairs(int count, std::uint64_t seed) {
  std::string lines;
  for (int i = 0; i < count; ++i) {
    const std::string sentence = grammar_text(1, seed + static_cast<std::uint64_t>(i));
    const std::string good = sentence.substr(0, sentence.size() - 1);
    lines +=
        fmt::format(R"({{"prompt": "the", "chosen": " {}", "rejected": " {} and and {}"}})", good, good.substr(0, 9), i % 7) + "\n";
  }
  return lines;
}

class PreferenceRun : public TrainerTest {
 protected:
  PreferenceRun() {
    write("pairs.jsonl", pairs(60, 100));
    write("held.jsonl", pairs(8, 500));
    Watcher watcher;
    base_ = run(recipe("base", {"steps=10"}), watcher).checkpoint.string();
  }

  Recipe preferences(const std::string& out, std::vector<std::string> overrides = {}) const {
    std::vector<std::string> all = {"model=" + base_,
                                    "tokenizer=",
                                    "new_model.layers=0",
                                    "objective=dpo",
                                    "reading.plain_strings=true",
                                    "data=[" + path("pairs.jsonl") + "]",
                                    "validation=[" + path("held.jsonl") + "]",
                                    "steps=8",
                                    "optimizer.learning_rate=1e-3"};
    all.insert(all.end(), overrides.begin(), overrides.end());
    return recipe(out, all);
  }

  std::string base_;
};

void expect_near(const std::map<std::int64_t, double>& found, const std::map<std::int64_t, double>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (const auto& [step, loss] : expected) EXPECT_NEAR(found.at(step), loss, 1e-5) << step;
}

TEST_F(PreferenceRun, AReferenceAskedOnceGivesTheSameRun) {
  for (const std::string extra : {"lora.rank=0", "lora.rank=4", "reading.pack=false"}) {
    const auto dpo = [&](const std::string& out, const std::string& once) {
      return preferences(out, {extra, "watch.evaluate_every=4", "dpo.precompute_reference=" + once});
    };
    Watcher each_step, once, first, second;
    run(dpo("plain", "false"), each_step);
    const RunResult straight = run(dpo("stored", "true"), once);
    expect_near(once.losses, each_step.losses);
    expect_near(once.held_out, each_step.held_out);
    EXPECT_EQ(once.asked, (std::pair<std::int64_t, std::int64_t>{68, 68}));
    EXPECT_EQ(each_step.asked.second, 0);
    first.stop_after = 3;
    run(dpo("stopped", "true"), first);
    const RunResult resumed = run(dpo("stopped", "true"), second, true);
    EXPECT_EQ(second.asked.second, 0) << "the reference was asked again";
    for (std::int64_t step = 4; step <= 8; ++step) EXPECT_EQ(second.losses.at(step), once.losses.at(step)) << step;
    EXPECT_TRUE(bytes_of(resumed.checkpoint / "training_state.bin") == bytes_of(straight.checkpoint / "training_state.bin"));
    for (const char* out : {"plain", "stored", "stopped"}) fs::remove_all(path(out));
  }
}

TEST_F(PreferenceRun, StagesOfOtherLengthsAreAskedToo) {
  const auto staged = [&](const std::string& out, const std::string& once) {
    Recipe recipe = preferences(out, {"reading.over_long=truncate", "dpo.precompute_reference=" + once});
    recipe.steps = 0;
    override_recipe(recipe, "stages=[{name: short, steps: 3, sequence_length: 12}, {name: long, steps: 3, sequence_length: 32}]");
    check_recipe(recipe);
    return recipe;
  };
  Watcher each_step, once;
  run(staged("plain", "false"), each_step);
  run(staged("stored", "true"), once);
  expect_near(once.losses, each_step.losses);
}

TEST_F(PreferenceRun, TheReferenceIsNotPlannedForWhereItIsAskedOnce) {
  const auto plan = [&](const std::string& once) {
    const Recipe recipe = preferences("plan", {"dpo.precompute_reference=" + once});
    return plan_train_memory(recipe, models(recipe), find_objective(recipe.objective));
  };
  const TrainMemory each_step = plan("false"), once = plan("true");
  const auto part = [](const TrainMemory& memory) {
    const auto found = std::ranges::find_if(memory.parts, [](const auto& each) { return each.first == "reference"; });
    return found == memory.parts.end() ? 0 : found->second;
  };
  EXPECT_GT(part(each_step), 0);
  EXPECT_EQ(part(once), 0);
  EXPECT_EQ(once.total(), each_step.total() - part(each_step));
  EXPECT_EQ(each_step.before, 0);
  EXPECT_GT(once.before, part(each_step));  // and the weights, which the student maps as well later
  EXPECT_THAT(once.text(), HasSubstr("before: the reference alone"));
}

TEST_F(PreferenceRun, OtherDataAndOtherReferencesAreFoundOut) {
  const auto recipe = [&](std::vector<std::string> more = {}) {
    more.insert(more.end(), {"dpo.precompute_reference=true", "steps=20"});
    return preferences("run", more);
  };
  Watcher first, second, third;
  first.stop_after = 1;
  run(recipe(), first);
  Watcher watcher;
  const std::string other = run(this->recipe("other", {"steps=11", "seed=2"}), watcher).checkpoint.string();
  expect_error(ErrorKind::kUsage, "reference.bin] holds what another reference said than " + other,
               [&] { run(recipe({"dpo.reference=" + other}), second, true); });
  std::string changed = bytes_of(path("pairs.jsonl"));
  for (std::size_t at = changed.find("and and"); at != std::string::npos; at = changed.find("and and"))
    changed.replace(at, 7, "and but");
  write("pairs.jsonl", changed);  // of the same size, so that the loader sees nothing
  expect_error(ErrorKind::kBadInput, "reference.bin] does not know an answer of the data, which has changed since",
               [&] { run(recipe(), second, true); });
  fs::remove(path("run") + "/reference.bin");
  EXPECT_EQ(run(recipe(), third, true).steps, 20);
  EXPECT_EQ(third.asked.first, 68);
}

TEST_F(PreferenceRun, AnInterruptWhileTheReferenceIsAskedLeavesNothing) {
  Watcher watcher;
  watcher.stop = true;
  EXPECT_THROW(run(preferences("run", {"dpo.precompute_reference=true"}), watcher), Interrupted);
  EXPECT_FALSE(fs::exists(path("run")));
}

TEST_F(PreferenceRun, RotaryStagesWouldTurnTheReferenceOfAdapters) {
  Recipe recipe = preferences("run", {"dpo.precompute_reference=true", "lora.rank=4"});
  recipe.steps = 0;
  override_recipe(recipe, "stages=[{name: turn, steps: 3, rope_theta: 1e6}]");
  expect_error(ErrorKind::kUsage, "[dpo.precompute_reference] is true, but stages change the rotary frequencies",
               [&] { check_recipe(recipe); });
}

TEST_F(PreferenceRun, ARewardModelOnOneRowContinuesBitForBit) {
  const auto recipe = [&](const std::string& out, const std::string& rows) {
    return preferences(out, {"objective=reward", "reward.rows=" + rows, "sequence_length=48"});
  };
  Watcher whole, first, second, tree;
  const RunResult straight = run(recipe("straight", "paper"), whole);
  first.stop_after = 3;
  run(recipe("stopped", "paper"), first);
  const RunResult resumed = run(recipe("stopped", "paper"), second, true);
  expect_equal_checkpoints(straight.checkpoint, resumed.checkpoint);
  run(recipe("tree", "tree"), tree);
  EXPECT_NE(tree.losses[1], whole.losses[1]);
}

// Units of fewer than kPanelRows rows are among them: their products are summed in another order.
TEST(ReferenceAnswers, DependOnTheirBatchByRoundingOnly) {
  ThreadPool pool(2);
  Device device{pool};
  std::vector<Unit> units;
  for (std::uint64_t i = 0; i < 12; ++i) {
    Example example;
    example.tokens = random_tokens(3 + static_cast<std::int64_t>(i % 5), 96, i);
    for (std::uint64_t a = 0; a < 2; ++a) {
      const std::vector<Token> answer = random_tokens(1 + static_cast<std::int64_t>((i * 7 + a * 5) % 13), 96, 100 + 2 * i + a);
      example.answers.push_back({answer, std::vector<bool>(answer.size(), true), static_cast<int>(a)});
    }
    Unit unit;
    const std::int64_t rows = example.rows();
    unit.add({std::make_shared<const Example>(std::move(example)), 0, rows});
    units.push_back(std::move(unit));
  }
  for (const Format format : {Format::kF32, Format::kF16, Format::kBF16, Format::kQ8_0, Format::kQ4_K}) {
    Network network(tiny_checkpoint(tiny_config(), format), read_only(), device, 256, Keep::kNothing);
    ReferenceLogProbs alone(std::string(64, 'a'), "r.bin");
    for (const PackedBatch& batch : pack_units(units, 256, false).batches)
      alone.add(batch, answer_log_probs(network.head, batch, network.forward(batch)));
    alone.settle();
    for (const PackedBatch& batch : pack_units(units, 256, true).batches) {
      const std::vector<double> kept = alone.of(batch), now = answer_log_probs(network.head, batch, network.forward(batch));
      for (std::size_t a = 0; a < now.size(); ++a) EXPECT_NEAR(kept[a], now[a], 1e-6 * std::abs(now[a])) << info(format).name;
    }
  }
}

PackedBatch batch_of_answers() {
  PackedBatch batch;
  for (const int token : {1, 2, 3, 4, 2, 5, 6}) batch.tokens.push_back(Token{token});
  batch.positions = {0, 1, 2, 3, 1, 2, 3};
  batch.segments = {{0, 1}, {1, 3, 0, 1}, {4, 3, 0, 1}};
  batch.targets = batch.tokens;
  batch.weights = {0, 1, 1, 0, 1, 1, 0};
  batch.answers = {{1, 2, 3, 0, 0, 0}, {4, 2, 6, 0, 1, 0}};
  return batch;
}

class ReferenceFile : public testing::Test {
 protected:
  ReferenceFile() {
    ReferenceLogProbs answers(std::string(64, 'a'), "r.bin");
    answers.add(batch_of_answers(), std::vector<double>{-1.5, -0.1 - 1e-17});
    answers.settle();
    const fs::path file = fs::temp_directory_path() / ("puna-reference-" + std::to_string(::getpid()));
    answers.write(file);
    std::ifstream stream(file, std::ios::binary);
    bytes_.assign(std::istreambuf_iterator<char>(stream), {});
    fs::remove(file);
  }
  static ReferenceLogProbs open(const std::string& bytes) { return {std::as_bytes(std::span(bytes)), "r.bin"}; }
  std::string bytes_;
};

TEST_F(ReferenceFile, GivesBackWhatWasAsked) {
  EXPECT_EQ(bytes_.size(), 88u + 2 * 24u);
  const ReferenceLogProbs answers = open(bytes_);
  EXPECT_EQ(answers.size(), 2u);
  EXPECT_EQ(answers.fingerprint(), std::string(64, 'a'));
  PackedBatch batch = batch_of_answers();
  EXPECT_EQ(answers.of(batch), (std::vector<double>{-1.5, -0.1 - 1e-17}));
  std::swap(batch.answers[0], batch.answers[1]);
  EXPECT_EQ(answers.of(batch).front(), -0.1 - 1e-17);
  // One token of the prompt, one of the answer, one mark, where the answer begins.
  const auto unknown = [&](const auto& change) {
    PackedBatch other = batch_of_answers();
    change(other);
    EXPECT_FALSE(answers.knows(other));
    expect_error(ErrorKind::kBadInput, "[r.bin] does not know an answer of the data", [&] { answers.of(other); });
  };
  EXPECT_TRUE(answers.knows(batch));
  unknown([](PackedBatch& other) { other.tokens[0] = Token{9}; });
  unknown([](PackedBatch& other) { other.tokens[3] = Token{9}; });
  unknown([](PackedBatch& other) { other.weights[2] = 0; });
  unknown([](PackedBatch& other) { other.answers[0].end_row = 2; });
}

TEST_F(ReferenceFile, IsRefusedWhereItDoesNotHoldTogether) {
  expect_error(ErrorKind::kBadInput, "[r.bin] holds no log-probabilities of a reference", [] { open("PUNAREFS"); });
  const auto changed = [&](std::size_t at, char value) {
    std::string bytes = bytes_;
    bytes[at] = value;
    return bytes;
  };
  expect_error(ErrorKind::kUnsupported, "is of version 2, expected 1", [&] { open(changed(8, 2)); });
  expect_error(ErrorKind::kBadInput, "3 answers do not fit its 136 bytes", [&] { open(changed(80, 3)); });
  expect_error(ErrorKind::kBadInput, "do not fit its", [&] { open(changed(87, '\x55')); });
  expect_error(ErrorKind::kBadInput, "do not fit its", [&] { open(bytes_.substr(0, bytes_.size() - 24)); });
  std::string swapped = bytes_;
  std::swap_ranges(swapped.begin() + 88, swapped.begin() + 112, swapped.begin() + 112);
  expect_error(ErrorKind::kBadInput, "answer 2 of 2 is damaged", [&] { open(swapped); });
  std::string infinite = bytes_;
  infinite.replace(104, 8, std::string("\0\0\0\0\0\0\xF0\x7F", 8));
  expect_error(ErrorKind::kBadInput, "answer 1 of 2 is damaged", [&] { open(infinite); });
}

}  // namespace
}  // namespace puna
