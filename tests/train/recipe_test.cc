// SPDX-License-Identifier: Apache-2.0
#include "train/recipe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/error.h"

namespace puna {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string error_of(const auto& action, ErrorKind kind) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    return error.what();
  }
  return "no error";
}

std::string parse_error(std::string_view yaml) {
  return error_of([&] { parse_recipe(yaml, "r.yaml"); }, ErrorKind::kBadInput);
}

std::string override_error(std::string_view assignment) {
  Recipe recipe;
  return error_of([&] { override_recipe(recipe, assignment); }, ErrorKind::kUsage);
}

constexpr std::string_view kFull = R"(
model: base
objective: sft
out: "runs/a b"
data:
  - path: one.jsonl
    weight: 1
  - path: two/*.jsonl
    kind: messages
    weight: 2.5
sequence_length: 4_096
batch_tokens: 8192
optimizer:
  learning_rate: 3e-4
  schedule: wsd
  eight_bit: true
lora:
  rank: 8
  targets: [q_proj, v_proj]
stages:
  - name: long
    steps: 10
    sequence_length: 8192
    data_weights: [1, 0.5]
watch:
  samples:
    - "Once: upon"
)";

TEST(Recipe, ReadsEveryKindOfValue) {
  const Recipe r = parse_recipe(kFull, "r.yaml");
  EXPECT_EQ(r.model, "base");
  EXPECT_EQ(r.out, "runs/a b");
  ASSERT_EQ(r.data.size(), 2u);
  EXPECT_EQ(r.data[0].path, "one.jsonl");
  EXPECT_EQ(r.data[1].kind, "messages");
  EXPECT_EQ(r.data[1].weight, 2.5);
  EXPECT_EQ(r.sequence_length, 4096);
  EXPECT_EQ(r.optimizer.learning_rate, 3e-4);
  EXPECT_TRUE(r.optimizer.eight_bit);
  EXPECT_THAT(r.lora.targets, ElementsAre("q_proj", "v_proj"));
  ASSERT_EQ(r.stages.size(), 1u);
  EXPECT_THAT(r.stages[0].data_weights, ElementsAre(1, 0.5));
  EXPECT_THAT(r.watch.samples, ElementsAre("Once: upon"));
  check_recipe(r);
}

TEST(Recipe, WrittenAndReadAgainIsTheSame) {
  Recipe r = parse_recipe(kFull, "r.yaml");
  r.description = "quotes \" backslash \\ newline \n and \u00e9";
  r.optimizer.beta2 = 0.1 + 0.2;  // needs all 17 digits
  const std::string text = recipe_text(r);
  const Recipe again = parse_recipe(text, "again.yaml");
  EXPECT_EQ(recipe_text(again), text);
  EXPECT_EQ(again.description, r.description);
  EXPECT_EQ(again.optimizer.beta2, r.optimizer.beta2);
  EXPECT_EQ(again.data[1].path, "two/*.jsonl");
}

TEST(Recipe, WrongKeysNameLineAndNearest) {
  EXPECT_EQ(parse_error("model: x\nlerning_rate: 1"), "[r.yaml:2] there is no key 'lerning_rate'");
  EXPECT_EQ(parse_error("optimizer:\n  lerning_rate: 1"),
            "[r.yaml:2] there is no key 'optimizer.lerning_rate': did you mean optimizer.learning_rate?");
  EXPECT_EQ(parse_error("steps: 1\nsteps: 2"), "[r.yaml:2] the key 'steps' is there twice");
  EXPECT_THAT(parse_error("data:\n  - path: x\n    wieght: 2"),
              HasSubstr("[r.yaml:3] there is no key 'wieght': did you mean weight?"));
  EXPECT_EQ(parse_error("optimizer: 3"), "[r.yaml:1] 'optimizer' is a section, expected keys below it");
  EXPECT_EQ(parse_error("[1, 2]"), "[r.yaml] a recipe is a map of keys (see puna recipe show)");
}

TEST(Recipe, WrongValuesNameLineAndType) {
  EXPECT_EQ(parse_error("steps: many"), "[r.yaml:1] steps is 'many', expected a whole number");
  EXPECT_EQ(parse_error("steps: 1.5"), "[r.yaml:1] steps is '1.5', expected a whole number");
  EXPECT_EQ(parse_error("steps: [1]"), "[r.yaml:1] steps is a list or a map, expected a whole number");
  EXPECT_EQ(parse_error("optimizer:\n  beta1: nan"), "[r.yaml:2] optimizer.beta1 is 'nan', expected a number");
  EXPECT_EQ(parse_error("reading:\n  pack: maybe"), "[r.yaml:2] reading.pack is 'maybe', expected true or false");
  EXPECT_EQ(parse_error("objective: sftt"),
            "[r.yaml:1] objective is 'sftt', expected next_token, sft, reward, dpo, distillation: did you mean sft?");
  EXPECT_THAT(parse_error("model: [unclosed"), HasSubstr("is not YAML"));
}

TEST(Recipe, Overrides) {
  Recipe r = parse_recipe(kFull, "r.yaml");
  override_recipe(r, "optimizer.learning_rate=1e-5");
  override_recipe(r, "data.1.weight=7");
  override_recipe(r, "out=elsewhere");
  override_recipe(r, "lora.targets=[o_proj]");
  EXPECT_EQ(r.optimizer.learning_rate, 1e-5);
  EXPECT_EQ(r.data[1].weight, 7);
  EXPECT_EQ(r.out, "elsewhere");
  EXPECT_THAT(r.lora.targets, ElementsAre("o_proj"));
  override_recipe(r, "data=[a.txt, b.txt]");
  ASSERT_EQ(r.data.size(), 2u);
  EXPECT_EQ(r.data[1].path, "b.txt");
  override_recipe(r, "model=");
  EXPECT_EQ(r.model, "");
}

TEST(Recipe, WrongOverrides) {
  EXPECT_EQ(override_error("steps"), "[--steps] has no value: write --steps=VALUE");
  EXPECT_EQ(override_error("stps=3"), "[--stps] there is no key 'stps': did you mean steps?");
  EXPECT_EQ(override_error("steps=x"), "[--steps] steps is 'x', expected a whole number");
  EXPECT_EQ(override_error("data.3.weight=1"), "[--data.3.weight] there is no entry 3: the recipe has 0 (counted from 0)");
}

TEST(Recipe, ImpossibleFiguresAreRefused) {
  const auto refused = [](std::initializer_list<std::string_view> overrides) {
    Recipe r = parse_recipe("model: m\nout: o\ndata: [d]\nsteps: 5", "r.yaml");
    for (const std::string_view each : overrides) override_recipe(r, each);
    return error_of([&] { check_recipe(r); }, ErrorKind::kUsage);
  };
  EXPECT_EQ(refused({}), "no error");
  EXPECT_THAT(refused({"steps=0"}), HasSubstr("exactly one of steps, epochs and stages"));
  EXPECT_THAT(refused({"epochs=1"}), HasSubstr("2 of them are given"));
  EXPECT_THAT(refused({"batch_tokens=100"}), HasSubstr("[batch_tokens] is 100, expected at least sequence_length (2048)"));
  EXPECT_THAT(refused({"model=", "new_model.depth=4", "new_model.layers=4"}), HasSubstr("in 2 of the ways"));
  EXPECT_THAT(refused({"model=", "new_model.depth=4"}), HasSubstr("[tokenizer] a new model needs one"));
  EXPECT_EQ(refused({"objective=distillation"}), "no error");  // the data may bring what a teacher says
  EXPECT_THAT(refused({"optimizer.beta2=1"}), HasSubstr("expected 0 to below 1"));
  EXPECT_THAT(refused({"dpo.beta=0"}), HasSubstr("ln 2"));
  EXPECT_THAT(refused({"data=[a, b]", "data.0.weight=2"}), HasSubstr("'b' has no weight: give one to every entry or to none"));
  EXPECT_THAT(refused({"data.0.kind=mesages"}), HasSubstr("did you mean messages?"));
  EXPECT_THAT(refused({"out="}), HasSubstr("[out] names no folder"));
  EXPECT_EQ(refused({"device=cuda:3"}), "no error");
  EXPECT_THAT(refused({"device=gpu"}), HasSubstr("[device] 'gpu' is no device, expected cpu, cuda or cuda:N"));
  EXPECT_THAT(refused({"device=cuda:1x"}), HasSubstr("[device] 'cuda:1x': expected numbers of GPUs behind cuda:"));
}

TEST(Recipe, ImpossibleFiguresOfStagesAndSamplesAreRefused) {
  const auto refused = [](std::initializer_list<std::string_view> overrides) {
    Recipe r = parse_recipe("model: m\nout: o\ndata: [d]", "r.yaml");
    for (const std::string_view each : overrides) override_recipe(r, each);
    return error_of([&] { check_recipe(r); }, ErrorKind::kUsage);
  };
  const auto stage = [&](const std::string& with) { return refused({"stages=[{name: one, steps: 2, " + with + "}]"}); };
  EXPECT_EQ(stage("learning_rate: 1e-5, step_tokens: 64, rope_theta: 1e6, data_weights: [2]"), "no error");
  EXPECT_EQ(stage("learning_rate: -1"), "[stages] stage 'one' has a learning_rate of -1, expected 0 or more");
  for (const char* const name : {"step_tokens", "sequence_length", "rope_theta", "rope_scaling_factor", "gate_loss"})
    EXPECT_THAT(stage(std::string(name) + ": -3"), HasSubstr(std::string("has a ") + name + " of -3, expected 0 or more"));
  EXPECT_THAT(stage("sequence_length: 1"), HasSubstr("has rows of 1 tokens, expected 2 or more"));
  EXPECT_THAT(stage("data_weights: [0]"), HasSubstr("has only 0 as data_weights"));
  EXPECT_THAT(stage("data_weights: [-1]"), HasSubstr("has -1 among its data_weights"));
  EXPECT_THAT(stage("sequence_length: 48, gate_needle: 0.5"),
              HasSubstr("has a gate_needle, but rows of 48 tokens: a needle is hidden in 64 or more"));
  const auto lengths = [&](std::string_view first, const std::string& second) {
    return refused({first, "stages=[{name: a, steps: 2, " + second + "}, {name: b, steps: 2, gate_needle: 0.5}]"});
  };
  EXPECT_EQ(lengths("sequence_length=48", "sequence_length: 64"), "no error");  // as before: 64
  EXPECT_THAT(lengths("sequence_length=64", "sequence_length: 48"),
              HasSubstr("stage 'b' has a gate_needle, but rows of 48 tokens"));
  EXPECT_THAT(refused({"steps=5", "watch.sample_tokens=-3"}), HasSubstr("[watch.sample_tokens] is -3, expected 1 or more"));
  EXPECT_THAT(refused({"steps=5", "watch.sample_every=5"}), HasSubstr("[watch.samples] names no prompt"));
  EXPECT_EQ(refused({"steps=5", "watch.sample_every=5", "watch.samples=[Once]"}), "no error");
}

TEST(Recipe, NamesTheDevicesOfARun) {
  Recipe recipe = parse_recipe("model: m\nout: o\ndata: [d]\nsteps: 5", "r.yaml");
  for (const char* const device : {"cpu", "cpu:2", "cuda", "cuda:12", "cuda:0-3", "cuda:0,1"}) {
    recipe.device = device;
    EXPECT_NO_THROW(check_recipe(recipe)) << device;
  }
  for (const auto& [device, message] : std::vector<std::pair<std::string, std::string>>{
           {"gpu", "[device] 'gpu' is no device"}, {"cpu:0", "expected a number of ranks behind cpu:"}}) {
    recipe.device = device;
    EXPECT_THAT(error_of([&] { check_recipe(recipe); }, ErrorKind::kUsage), HasSubstr(message));
  }
}

TEST(Recipe, FieldsHaveUniqueNames) {
  Recipe recipe;
  std::set<std::string_view> names;
  for (const RecipeField& field : recipe_fields(recipe)) EXPECT_TRUE(names.insert(field.name).second) << field.name;
}

TEST(Recipe, EveryShippedRecipeIsSound) {
  EXPECT_FALSE(shipped_recipes().empty());
  for (const ShippedRecipe& shipped : shipped_recipes()) {
    const Recipe recipe = parse_recipe(shipped.text, std::string(shipped.name));
    EXPECT_NO_THROW(check_recipe(recipe)) << shipped.name;
    EXPECT_FALSE(recipe.description.empty()) << shipped.name;
  }
}

}  // namespace
}  // namespace puna
