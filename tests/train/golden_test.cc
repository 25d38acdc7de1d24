// SPDX-License-Identifier: Apache-2.0
// Losses, gradients and runs of the optimizer against PyTorch in double precision (tests/golden/train/README.md).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "train/golden_case.h"
#include "train/objectives/answers.h"
#include "train/optimizer.h"

namespace puna {
namespace {

struct Agreement {
  double relative = 0, cosine = 1;
};
Agreement compare(std::span<const float> found, const Tensor& expected) {
  std::vector<float> row(static_cast<std::size_t>(expected.shape.row_length()));
  double difference = 0, norm = 0, own = 0, dot = 0;
  std::size_t i = 0;
  for (std::int64_t n = 0; n < expected.shape.rows(); ++n) {
    decode_row(expected, n, row.data());
    for (const float value : row) {
      const double e = static_cast<double>(value), f = static_cast<double>(found[i++]);
      difference += (f - e) * (f - e);
      norm += e * e;
      own += f * f;
      dot += e * f;
    }
  }
  if (norm == 0) return {std::sqrt(own), own == 0 ? 1.0 : 0.0};
  return {std::sqrt(difference / norm), dot / std::sqrt(norm * own)};
}

void expect_tensors(const Parameters& parameters, const std::string& file, std::span<float> Parameter::*values, double relative) {
  const SafetensorsFile expected(golden("train/" + file));
  EXPECT_EQ(expected.tensors().size(), parameters.all().size());
  for (const Parameter& parameter : parameters.all()) {
    const auto tensor = std::ranges::find(expected.tensors(), parameter.name, &Tensor::name);
    ASSERT_NE(tensor, expected.tensors().end()) << parameter.name;
    ASSERT_EQ(tensor->shape.count(), parameter.shape.count()) << parameter.name;
    const Agreement agreement = compare(parameter.*values, *tensor);
    EXPECT_LT(agreement.relative, relative) << parameter.name;
    EXPECT_GT(agreement.cosine, 0.99999999) << parameter.name;
  }
}

class Golden : public testing::TestWithParam<const char*> {};

TEST_P(Golden, LossAndGradientsArePyTorchs) {
  GoldenCase golden(GetParam());
  const double expected = golden.json["expected"]["loss"].get<double>();
  const LossReport report = golden.compute();
  EXPECT_NEAR(report.loss, expected, 1e-6 * std::fabs(expected));
  expect_tensors(golden.student->parameters, std::string(GetParam()) + ".gradients.safetensors", &Parameter::gradient, 1e-5);
  const PackedBatch& batch = golden.step.batches[0];
  const LossReport evaluated = golden.objective->evaluate(batch, golden.step, golden.student->pass.forward(rows_of(batch)));
  EXPECT_NEAR(evaluated.loss, report.loss, 1e-12 * report.loss);
  EXPECT_EQ(evaluated.tokens, report.tokens);
}

class GoldenAnswers : public testing::TestWithParam<const char*> {};

TEST_P(GoldenAnswers, LogProbabilitiesArePyTorchs) {
  GoldenCase golden(GetParam());
  const PackedBatch& batch = golden.step.batches[0];
  const std::vector<double> found = answer_log_probs(golden.student->head, batch, golden.student->pass.forward(rows_of(batch)));
  const auto expected = golden.json["expected"]["answer_log_probs"].get<std::vector<double>>();
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t a = 0; a < expected.size(); ++a) EXPECT_NEAR(found[a], expected[a], 1e-5);
}

// 20 steps on the same batch.
void expect_run(const std::string& name, const char* kind) {
  GoldenCase golden(name);
  const Json& options = golden.json["optimizer"];
  const Json& expected = golden.json["expected"][kind];
  AdamW optimizer(golden.student->parameters,
                  {.beta1 = options["beta1"],
                   .beta2 = options["beta2"],
                   .eps = options["eps"],
                   .decay = options["weight_decay"],
                   .clip = expected["clip"]},
                  golden.device);
  const auto losses = expected["losses"].get<std::vector<double>>(), norms = expected["gradient_norms"].get<std::vector<double>>();
  ASSERT_EQ(norms.size(), 20u);
  for (std::size_t i = 0; i < norms.size(); ++i) {
    EXPECT_NEAR(golden.compute().loss, losses[i], 5e-6 * (1 + losses[i])) << kind << " step " << i;
    const double norm = optimizer.gradient_norm();
    EXPECT_NEAR(norm, norms[i], 1e-5 * (1 + norms[i])) << kind << " step " << i;
    optimizer.step(options["learning_rate"], norm);
  }
  EXPECT_NEAR(golden.compute().loss, losses.back(), 5e-6 * (1 + losses.back()));
  EXPECT_EQ(optimizer.steps(), 20);
  const std::string weights = name + "." + kind + ".safetensors";
  if (std::filesystem::exists(puna::golden("train/" + weights))) {
    expect_tensors(golden.student->parameters, weights, &Parameter::value, 1e-5);
  }
}

TEST_P(Golden, TwentyStepsArePyTorchs) {
  expect_run(GetParam(), "unclipped");
  expect_run(GetParam(), "clipped");
}

INSTANTIATE_TEST_SUITE_P(Cases, GoldenAnswers,
                         testing::Values("reward", "reward_groups", "reward_one_row", "dpo", "dpo_length_normalised"),
                         [](const auto& parameter) { return std::string(parameter.param); });

INSTANTIATE_TEST_SUITE_P(Cases, Golden,
                         testing::Values("next_token", "next_token_tied", "sft", "reward", "reward_groups", "reward_one_row", "dpo",
                                         "dpo_nll_all_rows", "dpo_length_normalised", "distillation_forward",
                                         "distillation_reverse", "distillation_symmetric", "lora"),
                         [](const auto& parameter) { return std::string(parameter.param); });

}  // namespace
}  // namespace puna
