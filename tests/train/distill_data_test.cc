// SPDX-License-Identifier: Apache-2.0
// What a teacher says, written down and learned from: the same as with the teacher in memory where all is kept, and whole runs.
#include "train/distill_data.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "base/interrupted.h"
#include "expect_error.h"
#include "kernels/gradient_check.h"
#include "train/data/teacher_shard.h"
#include "train/network.h"
#include "train/objectives/objective.h"
#include "train/trainer_fixture.h"

namespace puna {
namespace {

using ::testing::HasSubstr;

class DistillData : public TrainerTest {
 protected:
  DistillData() {
    Watcher watcher;
    teacher_ = run(recipe("teacher", {"steps=20"}), watcher).checkpoint.string();
    vocabulary_ = open_checkpoint(teacher_)->config.vocabulary;
  }

  Recipe student(const std::string& out, std::vector<std::string> overrides = {}) const {
    overrides.insert(overrides.begin(), {"objective=distillation", "seed=5", "steps=8", "new_model.width=16"});
    return recipe(out, overrides);
  }
  // Of a student, in the folder.
  DistillDataReport ask(const std::string& folder, std::int64_t top_k, std::vector<std::string> overrides = {}) {
    overrides.push_back("distillation.teacher=" + teacher_);
    const Recipe asking = student("unused", overrides);
    return write_distill_data(asking, models(asking), pool_, {.top_k = top_k, .out = path(folder)});
  }
  std::vector<std::string> from(const std::string& folder) const {
    return {"data=[" + path(folder) + "/data-0.bin]", "validation=[" + path(folder) + "/validation-0.bin]"};
  }

  struct StepResult {
    double loss;
    std::vector<float> gradients;
  };
  // The first step over the data, unshuffled, by a student that has learned nothing; the teacher as the recipe says.
  StepResult first_step(const Recipe& recipe) {
    const RunModels run = models(recipe);
    const ObjectiveInfo& info = find_objective(recipe.objective);
    Device device{pool_};
    Network student(run.start, train_choice(recipe, run.start->config, info), device, recipe.batch_tokens, Keep::kAllActivations);
    std::unique_ptr<Network> teacher;
    if (run.teacher) teacher = std::make_unique<Network>(run.teacher, read_only(), device, recipe.batch_tokens, Keep::kNothing);
    const auto objective = info.make({.parameters = student.parameters,
                                      .head = student.head,
                                      .device = device,
                                      .max_rows = recipe.batch_tokens,
                                      .options = objective_options(recipe),
                                      .teacher = teacher ? teacher->pass.get() : nullptr,
                                      .teacher_head = teacher ? &teacher->head : nullptr});
    const auto loader = open_loader(in_order_once(data_options(recipe, run, false)), run);
    const StepBatches step = loader->next(recipe.step_tokens);
    student.parameters.zero_gradients(device);
    LossReport report;
    for (const PackedBatch& batch : step.batches) {
      const std::span<const float> hidden = student.forward(batch);
      report += objective->gradient(batch, step, hidden, student.pass->dhidden());
      student.pass->backward(student.pass->dhidden());
    }
    const std::span<const float> all = student.parameters.gradient_arena();
    return {report.loss, {all.begin(), all.end()}};
  }

  std::string teacher_;
  std::int64_t vocabulary_;
};

TEST_F(DistillData, OfTheWholeVocabularyIsTheTeacherInMemory) {
  const DistillDataReport report = ask("all", vocabulary_);
  EXPECT_EQ(report.rest, 0);
  EXPECT_EQ(report.data, std::vector<std::string>{path("all") + "/data-0.bin"});
  EXPECT_EQ(report.validation, std::vector<std::string>{path("all") + "/validation-0.bin"});
  for (const std::string direction : {"forward", "reverse", "symmetric"}) {
    for (const std::string temperature : {"1", "2.5"}) {
      const std::vector<std::string> how = {"distillation.direction=" + direction, "distillation.temperature=" + temperature,
                                            "distillation.ratio=0.8"};
      std::vector<std::string> online = how, stored = from("all");
      online.push_back("distillation.teacher=" + teacher_);
      stored.insert(stored.end(), how.begin(), how.end());
      const StepResult want = first_step(student("a", online)), got = first_step(student("b", stored));
      // F16 keeps log p to 2^-11 of it.
      EXPECT_NEAR(got.loss, want.loss, 3e-5 * want.loss) << direction;
      EXPECT_LE(relative_error(got.gradients, as_doubles(want.gradients)), 5e-4) << direction;
    }
  }
}

TEST_F(DistillData, AStudentThatIsTheTeacherLearnsNothingWhateverIsKept) {
  for (const std::int64_t top_k : {1, 4, 64}) {
    const std::string folder = "k" + std::to_string(top_k);
    const DistillDataReport report = ask(folder, top_k);
    EXPECT_GT(report.rest, 0);
    std::vector<std::string> same = from(folder);
    same.insert(same.end(), {"model=" + teacher_, "tokenizer=", "new_model.layers=0", "distillation.ratio=1"});
    for (const std::string direction : {"forward", "reverse", "symmetric"}) {
      same.push_back("distillation.direction=" + direction);
      EXPECT_NEAR(first_step(student("a", same)).loss, 0, 1e-6) << top_k << direction;
    }
  }
}

TEST_F(DistillData, ARunFromItLearnsAndContinuesBitForBit) {
  ask("stored", 16);
  const auto learning = [&](const std::string& out) {
    std::vector<std::string> overrides = from("stored");
    overrides.insert(overrides.end(), {"steps=12", "watch.evaluate_every=6"});
    return student(out, overrides);
  };
  Watcher whole, first, second;
  const RunResult straight = run(learning("straight"), whole);
  EXPECT_LT(whole.losses[12], whole.losses[1]);
  EXPECT_LT(whole.held_out[12], whole.held_out[6]);
  first.stop_after = 5;
  run(learning("stopped"), first);
  const RunResult resumed = run(learning("stopped"), second, true);
  for (std::int64_t step = 6; step <= 12; ++step) EXPECT_EQ(second.losses.at(step), whole.losses.at(step)) << step;
  expect_equal_checkpoints(straight.checkpoint, resumed.checkpoint);
}

TEST_F(DistillData, OtherObjectivesTrainOnItsTokens) {
  const DistillDataReport report = ask("stored", 4);
  std::vector<std::string> overrides = from("stored");
  overrides.push_back("objective=next_token");
  Watcher watcher;
  EXPECT_EQ(run(student("run", overrides), watcher).steps, 8);
  EXPECT_GT(report.trained_tokens, 0);
}

TEST_F(DistillData, SaysWhatIsMissing) {
  Watcher watcher;
  expect_error(ErrorKind::kUsage, "train.txt] holds nothing that a teacher says: name one in distillation.teacher",
               [&] { run(student("run"), watcher); });
  EXPECT_FALSE(fs::exists(path("run")));
  expect_error(ErrorKind::kUsage, fmt::format("[--top-k] is 384, expected 1 to the vocabulary's {}", vocabulary_),
               [&] { ask("stored", 384); });
  ask("stored", 4);
  expect_error(ErrorKind::kUsage, "stored] is not empty: --force overwrites its files", [&] { ask("stored", 4); });
  std::vector<std::string> overrides = from("stored");
  overrides.push_back("new_model.vocabulary=384");
  expect_error(ErrorKind::kBadInput,
               fmt::format("is of a teacher with {} tokens in its vocabulary, the model has 384", vocabulary_),
               [&] { run(student("run", overrides), watcher); });
}

TEST_F(DistillData, SaysWhyATeacherIsNotAskedOnAGpu) {
  if (!find_gpus().gpus.empty()) GTEST_SKIP() << "there is one";
  const Recipe asking = student("unused", {"distillation.teacher=" + teacher_, "device=cuda"});
  expect_error(ErrorKind::kUnsupported, "no GPU can be used",
               [&] { write_distill_data(asking, models(asking), pool_, {.top_k = 4, .out = path("stored")}); });
  EXPECT_FALSE(fs::exists(path("stored")));
}

TEST_F(DistillData, AnInterruptLeavesNoHalfFile) {
  const Recipe asking = student("unused", {"distillation.teacher=" + teacher_});
  std::atomic<bool> stop{false};
  std::int64_t calls = 0, last = 0;
  DistillDataOptions options{.top_k = 4, .out = path("stored"), .interrupted = &stop};
  options.progress = [&](std::int64_t done, std::int64_t all) {
    EXPECT_GE(done, last);
    EXPECT_LE(done, all);
    last = done;
    stop = ++calls == 3;
  };
  EXPECT_THROW(write_distill_data(asking, models(asking), pool_, options), Interrupted);
  EXPECT_TRUE(fs::is_empty(path("stored")));
}

// A prompt with two answers: each is a document behind the prompt, trained where its tokens count.
TEST_F(DistillData, UnfoldsAnswersOfOnePrompt) {
  write("pairs.jsonl", R"({"prompt": "the", "chosen": " cat sees", "rejected": " dog"})"
                       "\n");
  ask("pairs", 4, {"data=[" + path("pairs.jsonl") + "]", "validation=[]", "reading.plain_strings=true"});
  const std::string bytes = bytes_of(path("pairs") + "/data-0.bin");
  const TeacherShard shard(std::as_bytes(std::span(bytes)), "pairs");
  const auto tokenizer = open_tokenizer(path("tokenizer.json"));
  ASSERT_EQ(shard.documents(), 2);
  const auto text = [&](std::int64_t document) {
    std::string marked;
    const TeacherShard::Document read = shard.document(document);
    for (std::size_t t = 0; t < read.tokens.size(); ++t)
      marked += (read.trained[t] ? "*" : "") + tokenizer->piece(read.tokens[t], false);
    return marked;
  };
  EXPECT_THAT(text(0), HasSubstr("the*"));
  std::string first = text(0), second = text(1);
  std::erase(first, '*');
  std::erase(second, '*');
  EXPECT_THAT(first, ::testing::EndsWith("the cat sees"));
  EXPECT_THAT(second, ::testing::EndsWith("the dog"));
}

}  // namespace
}  // namespace puna
