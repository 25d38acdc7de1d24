// SPDX-License-Identifier: Apache-2.0
// Losses over the vocabulary against F64, whose gradients are held against finite differences.
#include "kernels/cross_entropy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "base/error.h"
#include "kernels/every_target.h"
#include "kernels/gradient_check.h"

namespace puna {
namespace {

Doubles log_softmax(const Doubles& logits, double temperature) {
  double peak = -INFINITY, sum = 0;
  for (const double z : logits) peak = std::max(peak, z);
  for (const double z : logits) sum += std::exp((z - peak) / temperature);
  Doubles result;
  for (const double z : logits) result.push_back((z - peak) / temperature - std::log(sum));
  return result;
}

// weight (softmax - one)
Doubles cross_entropy_gradient(const Doubles& logits, std::size_t target, double weight) {
  Doubles gradient = log_softmax(logits, 1);
  for (double& g : gradient) g = weight * std::exp(g);
  gradient[target] = weight * std::expm1(log_softmax(logits, 1)[target]);
  return gradient;
}

double divergence(const Doubles& student, const Doubles& teacher, double temperature, KlDirection direction) {
  const Doubles p = log_softmax(teacher, temperature), q = log_softmax(student, temperature);
  double forward = 0, reverse = 0;
  for (std::size_t v = 0; v < p.size(); ++v) {
    forward += std::exp(p[v]) * (p[v] - q[v]);
    reverse += std::exp(q[v]) * (q[v] - p[v]);
  }
  const double share = direction == KlDirection::kForward ? 1 : direction == KlDirection::kReverse ? 0 : 0.5;
  return temperature * temperature * (share * forward + (1 - share) * reverse);
}

// dKL(p || q) / dz = (q - p) / t,   dKL(q || p) / dz = q (log q - log p - KL(q || p)) / t
Doubles divergence_gradient(const Doubles& student, const Doubles& teacher, double temperature, KlDirection direction) {
  const Doubles p = log_softmax(teacher, temperature), q = log_softmax(student, temperature);
  const double share = direction == KlDirection::kForward ? 1 : direction == KlDirection::kReverse ? 0 : 0.5;
  double reverse = 0;
  for (std::size_t v = 0; v < p.size(); ++v) reverse += std::exp(q[v]) * (q[v] - p[v]);
  Doubles gradient;
  for (std::size_t v = 0; v < p.size(); ++v) {
    gradient.push_back(temperature *
                       (share * (std::exp(q[v]) - std::exp(p[v])) + (1 - share) * std::exp(q[v]) * (q[v] - p[v] - reverse)));
  }
  return gradient;
}

const KlDirection kDirections[] = {KlDirection::kForward, KlDirection::kReverse, KlDirection::kSymmetric};

TEST(CrossEntropy, TheOraclesGradientsAreTheSlopes) {
  const Doubles student = as_doubles(normal_values(17, 1, 2)), teacher = as_doubles(normal_values(17, 2, 2));
  expect_finite_differences([](const Doubles& z) { return -0.7 * log_softmax(z, 1)[5]; }, student,
                            cross_entropy_gradient(student, 5, 0.7), "cross entropy");
  for (const KlDirection direction : kDirections) {
    for (const double t : {0.5, 1.0, 3.0}) {
      expect_finite_differences([&](const Doubles& z) { return divergence(z, teacher, t, direction); }, student,
                                divergence_gradient(student, teacher, t, direction), "divergence");
    }
  }
}

struct Rows {
  std::int64_t rows, vocabulary;
  std::vector<float> logits, teacher, weights;
  std::vector<std::int32_t> targets;

  Rows(std::int64_t count, std::int64_t width) : rows(count), vocabulary(width) {
    logits = normal_values(rows * vocabulary, 3, 4);
    teacher = normal_values(rows * vocabulary, 4, 4);
    for (std::int64_t r = 0; r < rows; ++r) {
      weights.push_back(r % 3 == 1 ? 0.0f : 0.25f * static_cast<float>(r + 1));
      targets.push_back(static_cast<std::int32_t>((r * 7919 + vocabulary - 1) % vocabulary));
    }
  }
  static Doubles row(const std::vector<float>& of, std::int64_t r, std::int64_t width) {
    return Doubles(of.begin() + r * width, of.begin() + (r + 1) * width);
  }
};

TEST(CrossEntropy, EqualsTheOracleAndThreadsDoNotChangeABit) {
  for (const std::int64_t vocabulary : {1, 2, 15, 33, 4096, 32001}) {
    const Rows rows(4, vocabulary);
    on_every_target([&] {
      std::vector<float> first;
      for (const int threads : {1, 2, 3}) {
        ThreadPool pool(threads);
        Device device{pool};
        auto logits = rows.logits;
        Doubles alone(4), log_probs(4);
        const TargetRows targets{rows.targets.data(), 4, vocabulary};
        target_log_probs(device, logits.data(), targets, alone.data());
        cross_entropy_backward(device, logits.data(), targets, rows.weights.data(), log_probs.data());
        for (std::int64_t r = 0; r < 4; ++r) {
          const auto at = static_cast<std::size_t>(r);
          const Doubles z = Rows::row(rows.logits, r, vocabulary);
          const auto target = static_cast<std::size_t>(rows.targets[at]);
          EXPECT_NEAR(log_probs[at], log_softmax(z, 1)[target], 1e-6);
          EXPECT_NEAR(alone[at], log_probs[at], 1e-6);
          const std::vector<float> got(logits.begin() + r * vocabulary, logits.begin() + (r + 1) * vocabulary);
          if (rows.weights[at] == 0 || vocabulary == 1) {
            EXPECT_EQ(got, std::vector<float>(got.size(), 0.0f));
          } else {
            EXPECT_LE(relative_error(got, cross_entropy_gradient(z, target, rows.weights[at])), 1e-6) << vocabulary;
          }
        }
        if (threads == 1) first = logits;
        EXPECT_EQ(logits, first);
      }
    });
  }
}

// Columns in three parts, each seen alone, and put together by the formulas of the header.
TEST(CrossEntropy, PartsOfTheColumnsGiveTheWholesGradient) {
  for (const std::int64_t vocabulary : {33, 4099}) {
    const Rows rows(4, vocabulary);
    const std::vector<std::int64_t> begin{0, 1, vocabulary / 2, vocabulary};
    on_every_target([&] {
      ThreadPool pool(2);
      Device device{pool};
      struct Part {
        std::int64_t first, width;
        std::vector<float> logits;
        std::vector<std::int32_t> targets;
        std::vector<LogitSums> sums = std::vector<LogitSums>(4);
      };
      std::vector<Part> parts;
      for (std::size_t p = 0; p + 1 < begin.size(); ++p) {
        Part part{.first = begin[p], .width = begin[p + 1] - begin[p], .logits = {}, .targets = {}};
        for (std::int64_t r = 0; r < 4; ++r) {
          const auto row = rows.logits.begin() + r * vocabulary + part.first;
          part.logits.insert(part.logits.end(), row, row + part.width);
          const std::int64_t column = rows.targets[static_cast<std::size_t>(r)] - part.first;
          part.targets.push_back(column >= 0 && column < part.width ? static_cast<std::int32_t>(column) : kNotHere);
        }
        sum_logits(device, part.logits.data(), {part.targets.data(), 4, part.width}, part.sums.data());
        parts.push_back(std::move(part));
      }
      for (std::int64_t r = 0; r < 4; ++r) {
        const auto at = static_cast<std::size_t>(r);
        const Doubles z = Rows::row(rows.logits, r, vocabulary);
        const auto target = static_cast<std::size_t>(rows.targets[at]);
        double peak = -INFINITY, sum = 0, at_target = 0;
        for (const Part& part : parts) peak = std::max(peak, part.sums[at].peak);
        for (const Part& part : parts) {
          sum += part.sums[at].sum * std::exp(part.sums[at].peak - peak);
          at_target += part.sums[at].target;
        }
        const double log_prob = at_target - peak - std::log(sum);
        EXPECT_NEAR(log_prob, log_softmax(z, 1)[target], 1e-6);
        std::vector<float> got;
        for (Part& part : parts) {
          const auto own_peak = static_cast<float>(part.sums[at].peak);
          const auto factor = static_cast<float>(rows.weights[at] * std::exp(part.sums[at].peak - peak) / sum);
          const auto of_target = static_cast<float>(rows.weights[at] * std::expm1(log_prob));
          std::vector<float> row(part.logits.begin() + r * part.width, part.logits.begin() + (r + 1) * part.width);
          softmax_gradient(device, row.data(), {&part.targets[at], 1, part.width}, {&own_peak, &factor, &of_target});
          got.insert(got.end(), row.begin(), row.end());
        }
        if (rows.weights[at] == 0) {
          EXPECT_EQ(got, std::vector<float>(got.size(), 0.0f));
        } else {
          EXPECT_LE(relative_error(got, cross_entropy_gradient(z, target, rows.weights[at])), 1e-6) << vocabulary;
        }
      }
    });
  }
}

// A certain prediction: p - 1 would cancel.
TEST(CrossEntropy, TheTargetsGradientDoesNotCancel) {
  ThreadPool pool(1);
  Device device{pool};
  on_every_target([&] {
    std::vector<float> logits = {20, 0, -INFINITY, 0};
    const std::int32_t target = 0;
    const float weight = 1;
    double log_prob = 0;
    cross_entropy_backward(device, logits.data(), {&target, 1, 4}, &weight, &log_prob);
    EXPECT_NEAR(logits[0], -2 * std::exp(-20.0), 1e-6 * std::exp(-20.0));
    EXPECT_EQ(logits[2], 0);
    EXPECT_NEAR(log_prob, -2 * std::exp(-20.0), 1e-15);
  });
}

TEST(CrossEntropy, TargetsMustBeInTheVocabulary) {
  ThreadPool pool(1);
  Device device{pool};
  const float logits[] = {1, 2};
  double log_prob = 0;
  for (const std::int32_t target : {-1, 2}) {
    EXPECT_THAT(
        [&] {
          target_log_probs(device, logits, {&target, 1, 2}, &log_prob);
        },
        testing::ThrowsMessage<Error>("[cross_entropy] target " + std::to_string(target) + " of row 0 in a vocabulary of 2"));
  }
}

TEST(Distillation, EqualsTheOracleAddsAndThreadsDoNotChangeABit) {
  for (const std::int64_t vocabulary : {2, 15, 33, 4099}) {
    const Rows rows(3, vocabulary);
    for (const KlDirection direction : kDirections) {
      for (const double t : {0.7, 2.0}) {
        on_every_target([&] {
          std::vector<float> first;
          for (const int threads : {1, 2}) {
            ThreadPool pool(threads);
            Device device{pool};
            std::vector<float> dlogits(rows.logits.size(), 0.5f);
            Doubles losses(3);
            distillation_backward(device, rows.logits.data(), {rows.teacher.data(), 3, vocabulary, t, direction},
                                  rows.weights.data(), dlogits.data(), losses.data());
            for (std::int64_t r = 0; r < 3; ++r) {
              const auto at = static_cast<std::size_t>(r);
              const Doubles student = Rows::row(rows.logits, r, vocabulary), teacher = Rows::row(rows.teacher, r, vocabulary);
              const double loss = divergence(student, teacher, t, direction);
              EXPECT_NEAR(losses[at], loss, 2e-6 * (1 + loss));
              Doubles want = divergence_gradient(student, teacher, t, direction);
              for (double& g : want) g = 0.5 + rows.weights[at] * g;
              const std::vector<float> got(dlogits.begin() + r * vocabulary, dlogits.begin() + (r + 1) * vocabulary);
              EXPECT_LE(relative_error(got, want), 2e-6) << vocabulary;
            }
            if (threads == 1) first = dlogits;
            EXPECT_EQ(dlogits, first);
          }
        });
      }
    }
  }
}

TEST(Distillation, EqualLogitsHaveNoLossAndMaskedOnesAddNothing) {
  ThreadPool pool(1);
  Device device{pool};
  on_every_target([&] {
    const std::vector<float> logits = {1, 2, -INFINITY, 0.5f};
    const float weight = 1;
    for (const KlDirection direction : kDirections) {
      std::vector<float> dlogits(4, 0.0f);
      double loss = 1;
      distillation_backward(device, logits.data(), {logits.data(), 1, 4, 1.5, direction}, &weight, dlogits.data(), &loss);
      EXPECT_NEAR(loss, 0, 1e-7);
      for (const float g : dlogits) EXPECT_NEAR(g, 0, 1e-7);
    }
  });
}

// The divergence that is not asked for is infinite, and shows nowhere.
TEST(Distillation, OneSoftmaxMayRuleOutWhatTheOtherDoesNot) {
  ThreadPool pool(1);
  Device device{pool};
  const float weight = 2;
  on_every_target([&] {
    const std::vector<float> some = {0, 0, -INFINITY, 0}, all = {0, 0, 0, 0};  // a third each, a quarter each
    std::vector<float> dlogits(4, 0.0f);
    double loss = 0;
    distillation_backward(device, all.data(), {some.data(), 1, 4, 1, KlDirection::kForward}, &weight, dlogits.data(), &loss);
    EXPECT_NEAR(loss, std::log(4.0 / 3), 1e-6);
    for (std::size_t v = 0; v < 4; ++v) EXPECT_NEAR(dlogits[v], v == 2 ? 0.5 : -1.0 / 6, 1e-6) << v;
    dlogits.assign(4, 0.0f);
    distillation_backward(device, some.data(), {all.data(), 1, 4, 1, KlDirection::kReverse}, &weight, dlogits.data(), &loss);
    EXPECT_NEAR(loss, std::log(4.0 / 3), 1e-6);
    for (const float g : dlogits) EXPECT_NEAR(g, 0, 1e-6);
  });
}

TEST(Distillation, RefusesATemperatureThatIsNone) {
  ThreadPool pool(1);
  Device device{pool};
  const float one = 1;
  float slope = 0;
  double loss = 0;
  EXPECT_THAT(
      [&] {
        distillation_backward(device, &one, {&one, 1, 1, 0, KlDirection::kForward}, &one, &slope, &loss);
      },
      testing::ThrowsMessage<Error>("[distillation] a vocabulary of 1 at temperature 0"));
}

}  // namespace
}  // namespace puna
