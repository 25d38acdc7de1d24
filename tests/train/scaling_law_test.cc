// SPDX-License-Identifier: Apache-2.0
#include "train/scaling_law.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "train/run_start.h"

namespace puna {
namespace {

// Hoffmann's surface: loss = E + a / N^alpha + b / D^beta (2203.15556, approach 3), whose best D at C = 6 N D is known in closed
// form:
//   D* = (beta b / (alpha a))^(1 / (alpha + beta)) (C / 6)^(alpha / (alpha + beta))
constexpr double kE = 1.69, kA = 406.4, kB = 410.7, kAlpha = 0.34, kBeta = 0.28;

double surface(double parameters, double tokens) { return kE + kA / std::pow(parameters, kAlpha) + kB / std::pow(tokens, kBeta); }

std::vector<IsoFlopPoint> surface_points(std::initializer_list<double> budgets) {
  std::vector<IsoFlopPoint> points;
  for (const double budget : budgets) {
    const double best =
        std::pow(kBeta * kB / (kAlpha * kA), 1 / (kAlpha + kBeta)) * std::pow(budget / 6, kAlpha / (kAlpha + kBeta));
    for (const double factor : {0.7, 0.85, 1.0, 1.2, 1.4}) {
      const double tokens = best * factor, parameters = budget / (6 * tokens);
      points.push_back({budget, parameters, tokens, surface(parameters, tokens)});
    }
  }
  return points;
}

TEST(ScalingLaw, FindsTheLawBehindALossSurface) {
  const auto points = surface_points({1e18, 1e19, 1e20, 1e21});
  const auto curves = fit_iso_flops(points);
  ASSERT_EQ(curves.size(), 4u);
  const PowerLaw law = fit_power_law(curves);
  EXPECT_NEAR(law.exponent, kAlpha / (kAlpha + kBeta), 1e-3);
  for (const IsoFlopCurve& curve : curves) {
    const double best =
        std::pow(kBeta * kB / (kAlpha * kA), 1 / (kAlpha + kBeta)) * std::pow(curve.budget / 6, kAlpha / (kAlpha + kBeta));
    EXPECT_NEAR(curve.best_tokens / best, 1, 0.01) << curve.budget;
    EXPECT_NEAR(law.best_tokens(curve.budget) / best, 1, 0.01);
  }
}

TEST(ScalingLaw, AParabolaIsFoundExactly) {
  std::vector<IsoFlopPoint> points;
  for (const double x : {20.0, 21.0, 22.5, 24.0}) points.push_back({1e20, 1, std::exp(x), 2 + 0.1 * (x - 22) * (x - 22)});
  const auto curves = fit_iso_flops(points);
  EXPECT_NEAR(curves[0].a, 0.1, 1e-9);
  EXPECT_NEAR(std::log(curves[0].best_tokens), 22, 1e-6);
  EXPECT_NEAR(curves[0].best_loss, 2, 1e-9);
}

// arXiv 2407.21783, 3.2.1: 3.8e25 FLOPs, 402 B parameters, 16.55 T tokens.
TEST(ScalingLaw, ThePapersFigures) {
  const PowerLaw law = llama3_law();
  EXPECT_NEAR(law.best_tokens(3.8e25) / 16.55e12, 1, 0.02);
  EXPECT_NEAR(law.best_parameters(3.8e25) / 402e9, 1, 0.05);
}

TEST(ScalingLaw, WhatCannotBeFittedIsRefused) {
  const auto refuse = [](std::vector<IsoFlopPoint> points, std::string_view says) {
    try {
      fit_power_law(fit_iso_flops(points));
      ADD_FAILURE() << "not refused: " << says;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), ::testing::HasSubstr(std::string(says)));
    }
  };
  refuse({{1e18, 1, 1e9, 3}, {1e18, 1, 2e9, 2}}, "has 2 sizes");
  refuse({{1e18, 1, 1e9, 2}, {1e18, 1, 2e9, 3}, {1e18, 1, 4e9, 2}}, "no minimum");
  refuse({{1e18, 1, 1e9, 3}, {1e18, 1, 2e9, 2}, {1e18, 1, 4e9, 3}}, "1 budgets");
}

TEST(ScalingLaw, TheDialKeepsTheLaw) {
  Recipe recipe;
  recipe.sequence_length = 512;
  recipe.new_model.depth = 6;
  const ModelConfig config = new_model_config(recipe, 4096);
  dial_recipe(recipe, config);
  const double tokens = static_cast<double>(recipe.steps * recipe.step_tokens);
  const double budget = 6 * multiplying_parameters(config) * tokens;
  EXPECT_NEAR(llama3_law().best_tokens(budget) / tokens, 1, 0.02);
  EXPECT_EQ(depth_for_budget(recipe, budget, 4096), 6);
  EXPECT_GT(recipe.optimizer.learning_rate, 1e-4);
  EXPECT_LT(recipe.optimizer.learning_rate, 1e-2);
}

TEST(ScalingLaw, MultiplyingParametersOfLlama) {
  EXPECT_NEAR(multiplying_parameters(*known_shape("8b")), 7.505e9, 0.001e9);
  EXPECT_NEAR(multiplying_parameters(*known_shape("1b")), 1.236e9, 0.001e9);
}

TEST(ScalingLaw, ThePlotShowsEveryPoint) {
  const auto curves = fit_iso_flops(surface_points({1e18, 1e19}));
  const std::string svg = scaling_plot_svg(curves, fit_power_law(curves));
  std::size_t circles = 0;
  for (std::size_t at = svg.find("<circle"); at != std::string::npos; at = svg.find("<circle", at + 1)) ++circles;
  EXPECT_EQ(circles, 10u + 2u);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
}

}  // namespace
}  // namespace puna
