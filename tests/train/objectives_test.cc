// SPDX-License-Identifier: Apache-2.0
// What must hold for every objective whatever the data: splitting a step changes nothing, threads change nothing, and each has a
// point where its value is known.
#include "train/objectives/objective.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <string>
#include <utility>
#include <vector>

#include "count_allocations.h"
#include "expect_error.h"
#include "model/tiny_checkpoint.h"
#include "train/data/packing.h"
#include "train/golden_case.h"
#include "train/objectives/answers.h"
#include "train/optimizer.h"

namespace puna {
namespace {

using testing::ElementsAre;

double distance(std::span<const float> a, std::span<const float> b) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    const double x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
    difference += (x - y) * (x - y);
    norm += y * y;
  }
  return std::sqrt(difference / norm);
}

std::vector<float> gradients(GoldenCase& test) {
  const std::span<const float> all = test.student->parameters.gradient_arena();
  return {all.begin(), all.end()};
}

// A document of its own: rows [first, first + count) of a batch without prefixes.
PackedBatch slice(const PackedBatch& batch, std::size_t first, std::size_t count) {
  PackedBatch part;
  const auto cut = [&](const auto& from, auto& to) {
    to.assign(from.begin() + static_cast<std::ptrdiff_t>(first), from.begin() + static_cast<std::ptrdiff_t>(first + count));
  };
  cut(batch.tokens, part.tokens);
  cut(batch.positions, part.positions);
  cut(batch.targets, part.targets);
  cut(batch.weights, part.weights);
  part.segments = {{0, static_cast<std::int64_t>(count)}};
  return part;
}

// The batches of one group of answers each.
std::vector<PackedBatch> split_groups(const PackedBatch& batch) {
  std::vector<PackedBatch> parts;
  std::size_t i = 0;
  while (i < batch.segments.size()) {
    std::size_t end = i + 1;
    while (end < batch.segments.size() && batch.segments[end].prefix_rows > 0) ++end;
    const std::int64_t first = batch.segments[i].first_row;
    const std::int64_t last = batch.segments[end - 1].first_row + batch.segments[end - 1].rows;
    PackedBatch part = slice(batch, static_cast<std::size_t>(first), static_cast<std::size_t>(last - first));
    part.segments.clear();
    for (; i < end; ++i) {
      PackedSegment segment = batch.segments[i];
      segment.first_row -= first;
      if (segment.prefix_rows > 0) segment.prefix_row -= first;
      part.segments.push_back(segment);
    }
    for (Answer answer : batch.answers) {
      if (answer.first_row < first || answer.first_row >= last) continue;
      answer.first_row -= first;
      answer.end_row -= first;
      part.answers.push_back(answer);
    }
    parts.push_back(part);
  }
  return parts;
}

std::vector<PackedBatch> split(const PackedBatch& batch) {
  if (!batch.answers.empty()) return split_groups(batch);
  std::vector<PackedBatch> parts;
  for (const PackedSegment& segment : batch.segments) {
    parts.push_back(slice(batch, static_cast<std::size_t>(segment.first_row), static_cast<std::size_t>(segment.rows)));
  }
  return parts;
}

class EveryObjective : public testing::TestWithParam<const char*> {};

TEST_P(EveryObjective, ASplitStepIsTheWholeStep) {
  GoldenCase test(GetParam());
  const LossReport whole = test.compute();
  const std::vector<float> expected = gradients(test);
  test.step = step_of(split(test.step.batches[0]));
  ASSERT_GE(test.step.batches.size(), 2u);
  const LossReport parts = test.compute();
  EXPECT_NEAR(parts.loss, whole.loss, 1e-6 * whole.loss);
  EXPECT_EQ(parts.tokens, whole.tokens);
  ASSERT_EQ(parts.figures().size(), whole.figures().size());
  for (std::size_t i = 0; i < whole.figures().size(); ++i) {
    EXPECT_EQ(parts.figures()[i].name, whole.figures()[i].name);
    EXPECT_NEAR(parts.figures()[i].value, whole.figures()[i].value, 1e-5) << whole.figures()[i].name;
  }
  EXPECT_LT(distance(gradients(test), expected), 1e-6);
}

TEST_P(EveryObjective, OneAndTwoThreadsGiveEqualBits) {
  GoldenCase one(GetParam(), 1), two(GetParam(), 2);
  EXPECT_EQ(one.compute().loss, two.compute().loss);
  EXPECT_EQ(gradients(one), gradients(two));
}

TEST_P(EveryObjective, TheSecondStepAllocatesNothing) {
  GoldenCase test(GetParam());
  AdamW optimizer(test.student->parameters, {}, test.device);
  const auto step = [&] {
    test.compute();
    optimizer.step(1e-3, optimizer.gradient_norm());
  };
  step();
  const std::int64_t before = allocations;
  step();
  EXPECT_EQ(allocations - before, 0);
}

INSTANTIATE_TEST_SUITE_P(All, EveryObjective,
                         testing::Values("next_token", "sft", "reward_groups", "reward_one_row", "dpo", "dpo_length_normalised",
                                         "distillation_symmetric", "lora"),
                         [](const auto& parameter) { return std::string(parameter.param); });

TEST(Objectives, TheTableHasThem) {
  std::vector<std::string_view> names;
  for (const ObjectiveInfo& info : objectives()) names.push_back(info.name);
  EXPECT_THAT(names, ElementsAre("next_token", "sft", "reward", "dpo", "distillation"));
  expect_error(ErrorKind::kUsage, "there is no objective stf: did you mean sft?; expected one of next_token, sft",
               [] { find_objective("stf"); });
}

TEST(Objectives, ReportsAddUpByName) {
  LossReport sum;
  LossReport part;
  part.loss = 1.5;
  part.tokens = 3;
  part.add("accuracy", 0.25);
  part.add("accuracy", 0.25);
  sum += part;
  part.add("margin", 2);
  sum += part;
  EXPECT_EQ(sum.loss, 3);
  EXPECT_EQ(sum.tokens, 6);
  ASSERT_EQ(sum.figures().size(), 2u);
  EXPECT_EQ(sum.figures()[0].name, "accuracy");
  EXPECT_EQ(sum.figures()[0].value, 1);
  EXPECT_EQ(sum.figures()[1].value, 2);
}

TEST(Objectives, DpoBeginsAtLogTwo) {
  GoldenCase test("dpo");
  PackedBatch& batch = test.step.batches[0];
  const std::vector<double> own = answer_log_probs(test.student->head, batch, test.student->pass.forward(rows_of(batch)));
  for (std::size_t a = 0; a < own.size(); ++a) batch.answers[a].reference_log_prob = own[a];
  ObjectiveOptions options;
  options.nll_weight = 0;
  for (const bool length_normalised : {false, true}) {
    options.length_normalised = length_normalised;
    const auto objective = find_objective("dpo").make({test.student->parameters, test.student->head, test.device, 64, options});
    const LossReport report = objective->evaluate(batch, test.step, test.student->pass.forward(rows_of(batch)));
    EXPECT_NEAR(report.loss, std::numbers::ln2, 1e-6);
    EXPECT_EQ(report.figures()[1].name, "margin");
    EXPECT_NEAR(report.figures()[1].value, 0, 1e-6);
  }
}

TEST(Objectives, ATeacherLikeTheStudentTeachesNothing) {
  GoldenCase test("distillation_forward");
  TestNetwork teacher(open_checkpoint(golden("train/untied")), {.trained = Trained::kNothing}, test.device, Keep::kNothing);
  for (const KlDirection direction : {KlDirection::kForward, KlDirection::kReverse, KlDirection::kSymmetric}) {
    ObjectiveOptions options;
    options.ratio = 1;
    options.temperature = 3;
    options.direction = direction;
    const auto objective =
        find_objective("distillation")
            .make({test.student->parameters, test.student->head, test.device, 64, options, &teacher.pass, &teacher.head});
    EXPECT_NEAR(compute_step(*test.student, *objective, test.step, test.device).loss, 0, 1e-9);
    for (const float gradient : test.student->parameters.gradient_arena()) EXPECT_NEAR(gradient, 0, 1e-6);
  }
}

// Swapping which of two answers is better turns the margin round, and with it each answer's slope about one half.
TEST(Objectives, RewardsAreAntisymmetric) {
  GoldenCase test("reward");
  PackedBatch& batch = test.step.batches[0];
  batch.answers.resize(2);
  const LossReport before = test.compute();
  std::swap(batch.answers[0].rank, batch.answers[1].rank);
  const LossReport after = test.compute();
  const auto figure = [](const LossReport& report, std::string_view name) {
    return std::ranges::find(report.figures(), name, &LossReport::Figure::name)->value;
  };
  const double margin = figure(before, "margin");
  EXPECT_NE(margin, 0);
  EXPECT_EQ(figure(after, "margin"), -margin);
  EXPECT_EQ(figure(after, "accuracy"), 1 - figure(before, "accuracy"));
  EXPECT_EQ(figure(after, "better"), figure(before, "worse"));
  EXPECT_NEAR(after.loss - before.loss, margin, 1e-12);  // -log sigma(-z) + log sigma(z) = z
}

// Scores of an example's answers, by rank.
std::vector<double> rewards_of(GoldenCase& test, Example example) {
  Unit whole;
  const std::int64_t rows = example.rows();
  whole.add({std::make_shared<const Example>(std::move(example)), 0, rows});
  const StepBatches step = pack_units(std::vector<Unit>{whole}, 64, true);
  const PackedBatch& batch = step.batches.at(0);
  const std::span<const float> hidden = test.student->pass.forward(rows_of(batch));
  const std::span<const float> head = test.student->parameters.find("score.weight").value;
  std::vector<double> rewards(batch.answers.size());
  for (const Answer& answer : batch.answers) {
    double& reward = rewards.at(static_cast<std::size_t>(answer.rank));
    for (std::size_t d = 0; d < head.size(); ++d)
      reward +=
          static_cast<double>(head[d]) * static_cast<double>(hidden[static_cast<std::size_t>(answer.end_row) * head.size() + d]);
  }
  return rewards;
}

TEST(Objectives, ATreeScoresAnswersAsIfAloneAndOneRowDoesNot) {
  GoldenCase test("reward");
  const auto tokens = [](std::initializer_list<int> numbers) {
    std::vector<Token> list;
    for (const int number : numbers) list.push_back(Token{number});
    return list;
  };
  Example example;
  example.tokens = tokens({1, 7, 12});
  example.answers = {{tokens({9, 30, 2}), {true, true, false}, 0},
                     {tokens({11, 2}), {true, false}, 1},
                     {tokens({40, 5, 6, 2}), {true, true, true, false}, 2}};
  const std::vector<double> tree = rewards_of(test, example);
  Example joined = example;
  joined.one_row = true;
  const std::vector<double> row = rewards_of(test, joined);
  for (std::size_t a = 0; a < 3; ++a) {
    Example alone = example;
    alone.answers = {example.answers[a]};
    alone.answers[0].rank = 0;
    EXPECT_NEAR(tree[a], rewards_of(test, alone)[0], 1e-6) << a;
    EXPECT_EQ(std::fabs(row[a] - tree[a]) < 1e-2, a == 0) << a;  // before the first nothing stands but the prompt
  }
}

TEST(Objectives, EqualRanksAreNotCompared) {
  GoldenCase test("reward");
  PackedBatch& batch = test.step.batches[0];
  for (Answer& answer : batch.answers) answer.rank = 1;
  const LossReport report = test.compute();
  EXPECT_EQ(report.loss, 0);
  for (const float gradient : test.student->parameters.gradient_arena()) EXPECT_EQ(gradient, 0);
}

TEST(Objectives, TheRewardHeadIsAParameterOfItsOwn) {
  const std::vector<ExtraParameter> extra = find_objective("reward").extra(tiny_config());
  ASSERT_EQ(extra.size(), 1u);
  EXPECT_EQ(extra[0].name, "score.weight");
  EXPECT_EQ(extra[0].shape, (Shape{1, 256}));
  EXPECT_DOUBLE_EQ(extra[0].spread, 1 / std::sqrt(257.0));
  EXPECT_TRUE(find_objective("sft").extra(tiny_config()).empty());
}

TEST(Objectives, SayWhatTheyRefuse) {
  GoldenCase test("sft");
  test.step.trained_tokens = 0;
  expect_error(ErrorKind::kBadInput, "a step without a token to train on: every row is masked", [&] { test.compute(); });
  ObjectiveContext context{test.student->parameters, test.student->head, test.device, 64};
  context.options.beta = 0;
  expect_error(ErrorKind::kUsage, "[dpo.beta] 0 found, expected a number above 0", [&] { find_objective("dpo").make(context); });
  test.step.trained_tokens = 1;
  expect_error(ErrorKind::kUsage, "[distillation.teacher] no teacher given",
               [&] { compute_step(*test.student, *find_objective("distillation").make(context), test.step, test.device); });
  TestNetwork other(open_checkpoint(golden("train/tied")), {.trained = Trained::kNothing}, test.device, Keep::kNothing);
  context.teacher = &other.pass;
  context.teacher_head = &other.head;
  expect_error(ErrorKind::kUsage, "the teacher has 64 tokens and the student 48",
               [&] { find_objective("distillation").make(context); });
}

}  // namespace
}  // namespace puna
