// SPDX-License-Identifier: Apache-2.0
// What the tests of whole runs share: a folder with a corpus and a tokenizer, a recipe of a small model, and who watches its run.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "text/bpe_trainer.h"
#include "text/tokenizer_export.h"
#include "train/trainer.h"

namespace puna {

namespace fs = std::filesystem;

// Sentences of a small grammar: enough to be learned in a few dozen steps.
inline std::string grammar_text(int sentences, std::uint64_t seed) {
  const std::vector<std::string> who{"the cat", "the dog", "a bird", "my llama"}, does{"sees", "likes", "follows"},
      what{"the sun", "a tree", "the river", "the grass"};
  std::string text;
  for (int i = 0; i < sentences; ++i) {
    const auto pick = [&](const auto& from, std::uint64_t slot) {
      return from[random_bits(seed, static_cast<std::uint64_t>(i), slot) % from.size()];
    };
    text += pick(who, 0) + " " + pick(does, 1) + " " + pick(what, 2) + ".\n";
  }
  return text;
}

class Watcher : public TrainObserver {
 public:
  void began(const RunPlan&, const TrainMemory&, std::int64_t, std::int64_t) override {}
  void asked_reference(std::int64_t done, std::int64_t all) override { asked = {done, all}; }
  void stepped(const StepReport& report) override {
    losses[report.step] = report.loss;
    norms[report.step] = report.gradient_norm;
    rows[report.step] = report.rows;
    tokens[report.step] = report.tokens;
    if (report.step == stop_after) stop = true;
  }
  void evaluated(std::int64_t step, double loss, const Figures&) override { held_out[step] = loss; }
  void sampled(std::int64_t, std::string_view, std::string_view text) override { samples.emplace_back(text); }
  void saved(const fs::path&) override {
    ++checkpoints;
    if (checkpoints == dies_at_checkpoint) throw std::runtime_error("as if killed");
  }
  void noted(std::string_view text) override { notes.emplace_back(text); }

  std::map<std::int64_t, double> losses, norms, held_out;
  std::map<std::int64_t, std::int64_t> rows, tokens;
  std::vector<std::string> samples, notes;
  std::pair<std::int64_t, std::int64_t> asked;  // rows, of all
  int checkpoints = 0, dies_at_checkpoint = -1;
  std::int64_t stop_after = -1;
  std::atomic<bool> stop{false};
};

class TrainerTest : public testing::Test {
 protected:
  TrainerTest() : folder_(fs::temp_directory_path() / ("puna-trainer-" + std::to_string(::getpid()))) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    write("train.txt", grammar_text(600, 1));
    write("held.txt", grammar_text(60, 2));
    BpeTrainerOptions options;
    options.vocabulary_size = 320;
    BpeTrainer trainer(options, pool_);
    trainer.add(grammar_text(600, 1));
    write("tokenizer.json", tokenizer_json_text(export_gguf_vocabulary(*trainer.train(), "test")));
  }
  ~TrainerTest() override { fs::remove_all(folder_); }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  void write(const std::string& name, const std::string& text) const { std::ofstream(path(name), std::ios::binary) << text; }

  Recipe recipe(const std::string& out, const std::vector<std::string>& overrides = {}) const {
    Recipe recipe = parse_recipe(R"(
new_model: {layers: 2, width: 32, heads: 4, kv_heads: 2, feed_forward: 64}
sequence_length: 32
step_tokens: 128
batch_tokens: 64
steps: 30
optimizer: {learning_rate: 1e-2, warmup: 3}
)",
                                 "test");
    recipe.tokenizer = path("tokenizer.json");
    recipe.data = {{.path = path("train.txt")}};
    recipe.validation = {{.path = path("held.txt")}};
    recipe.out = path(out);
    for (const std::string& each : overrides) override_recipe(recipe, each);
    check_recipe(recipe);
    return recipe;
  }

  static RunModels models(const Recipe& recipe) {
    return open_run_models(recipe, [](const std::string& name) { return fs::path(name); });
  }
  RunResult run(const Recipe& recipe, Watcher& watcher, bool resume = false) {
    Trainer trainer(recipe, models(recipe), pool_, watcher, resume, &watcher.stop);
    return trainer.run(watcher.stop);
  }

  static std::string bytes_of(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  fs::path folder_;
  ThreadPool pool_{2};
};

inline void expect_equal_checkpoints(const fs::path& a, const fs::path& b) {
  for (const char* name : {"model.safetensors", "training_state.bin", "training_state.json"}) {
    std::ifstream one(a / name, std::ios::binary), other(b / name, std::ios::binary);
    const std::string left((std::istreambuf_iterator<char>(one)), {}), right((std::istreambuf_iterator<char>(other)), {});
    EXPECT_FALSE(left.empty());
    EXPECT_TRUE(left == right) << name;
  }
}

}  // namespace puna
