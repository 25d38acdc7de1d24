// SPDX-License-Identifier: Apache-2.0
// The k likeliest tokens and the rest against sorting, and distillation from them against F64, whose gradients are held against
// finite differences.
#include "kernels/top_k.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/every_target.h"
#include "kernels/gradient_check.h"

namespace puna {
namespace {

const KlDirection kTopKDirections[] = {KlDirection::kForward, KlDirection::kReverse, KlDirection::kSymmetric};

Doubles log_softmax(Doubles values) {
  double peak = -INFINITY, sum = 0;
  for (const double value : values) peak = std::max(peak, value);
  for (const double value : values) sum += std::exp(value - peak);
  for (double& value : values) value -= peak + std::log(sum);
  return values;
}

// log-probabilities of the tokens in ids and, last, of all others together.
Doubles outcomes(const Doubles& logits, const std::vector<std::int32_t>& ids) {
  const Doubles all = log_softmax(logits);
  Doubles result, others;
  for (std::size_t v = 0; v < all.size(); ++v) {
    if (std::ranges::find(ids, static_cast<std::int32_t>(v)) == ids.end()) others.push_back(all[v]);
  }
  for (const std::int32_t id : ids) result.push_back(all[static_cast<std::size_t>(id)]);
  double peak = -INFINITY, sum = 0;
  for (const double value : others) peak = std::max(peak, value);
  for (const double value : others) sum += std::exp(value - peak);
  result.push_back(others.empty() ? -INFINITY : peak + std::log(sum));
  return result;
}

Doubles tempered(Doubles values, double temperature) {
  for (double& value : values) value /= temperature;
  return log_softmax(values);
}

struct Teacher {
  std::vector<std::int32_t> ids;
  Doubles outcomes;  // [k + 1]
};

double divergence(const Doubles& student, const Teacher& teacher, double temperature, KlDirection direction) {
  const Doubles p = tempered(teacher.outcomes, temperature), q = tempered(outcomes(student, teacher.ids), temperature);
  double forward = 0, reverse = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    if (p[i] == -INFINITY && q[i] == -INFINITY) continue;
    forward += std::exp(p[i]) * (p[i] - q[i]);
    reverse += std::exp(q[i]) * (q[i] - p[i]);
  }
  const double share = direction == KlDirection::kForward ? 1 : direction == KlDirection::kReverse ? 0 : 0.5;
  return temperature * temperature * (share * forward + (1 - share) * reverse);
}

// Through the chain of outcomes, whose Jacobian is written out: d log q[i] / dz[v] = [v in i] q[v] / q[i] - q[v].
Doubles divergence_gradient(const Doubles& student, const Teacher& teacher, double temperature, KlDirection direction) {
  const Doubles all = log_softmax(student), own = outcomes(student, teacher.ids);
  const Doubles p = tempered(teacher.outcomes, temperature), q = tempered(own, temperature);
  double reverse = 0;
  for (std::size_t i = 0; i < p.size(); ++i) reverse += q[i] == -INFINITY ? 0 : std::exp(q[i]) * (q[i] - p[i]);
  const double share = direction == KlDirection::kForward ? 1 : direction == KlDirection::kReverse ? 0 : 0.5;
  Doubles gradient(student.size(), 0.0);
  for (std::size_t i = 0; i < p.size(); ++i) {
    if (q[i] == -INFINITY) continue;
    const double slope =
        temperature * (share * (std::exp(q[i]) - std::exp(p[i])) + (1 - share) * std::exp(q[i]) * (q[i] - p[i] - reverse));
    for (std::size_t v = 0; v < student.size(); ++v) {
      const auto kept = std::ranges::find(teacher.ids, static_cast<std::int32_t>(v));
      const bool belongs = static_cast<std::size_t>(kept - teacher.ids.begin()) == i;  // the rest is the last of both
      gradient[v] += slope * ((belongs ? std::exp(all[v] - own[i]) : 0) - std::exp(all[v]));
    }
  }
  return gradient;
}

// The likeliest by sorting; of equal ones the lower.
Teacher teacher_of(const Doubles& logits, std::int64_t k) {
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, std::greater<>(), [&](std::int32_t id) { return logits[static_cast<std::size_t>(id)]; });
  order.resize(static_cast<std::size_t>(k));
  std::ranges::sort(order);
  return {order, outcomes(logits, order)};
}

TEST(TopKDistillation, TheOraclesGradientsAreTheSlopes) {
  const Doubles student = as_doubles(normal_values(17, 1, 2)), logits = as_doubles(normal_values(17, 2, 2));
  for (const std::int64_t k : {1, 4, 16, 17}) {
    const Teacher teacher = teacher_of(logits, k);
    for (const KlDirection direction : kTopKDirections) {
      for (const double t : {0.5, 1.0, 3.0}) {
        expect_finite_differences([&](const Doubles& z) { return divergence(z, teacher, t, direction); }, student,
                                  divergence_gradient(student, teacher, t, direction), "divergence");
      }
    }
  }
}

// Rows with different numbers of kept tokens, as they lie in memory.
struct Kept {
  std::vector<std::int64_t> begin{0};
  std::vector<std::int32_t> ids;
  std::vector<float> log_probs, rest;

  void add(const Teacher& teacher) {
    ids.insert(ids.end(), teacher.ids.begin(), teacher.ids.end());
    for (std::size_t i = 0; i < teacher.ids.size(); ++i) log_probs.push_back(static_cast<float>(teacher.outcomes[i]));
    rest.push_back(static_cast<float>(teacher.outcomes.back()));
    begin.push_back(static_cast<std::int64_t>(ids.size()));
  }
  TopKDistillationRows rows(std::int64_t vocabulary, double temperature, KlDirection direction) const {
    return {begin.data(), ids.data(),  log_probs.data(), rest.data(), static_cast<std::int64_t>(rest.size()),
            vocabulary,   temperature, direction};
  }
};

Doubles row_of(const std::vector<float>& values, std::int64_t r, std::int64_t width) {
  return Doubles(values.begin() + r * width, values.begin() + (r + 1) * width);
}

TEST(TopKDistillation, EqualsTheOracleAddsAndThreadsDoNotChangeABit) {
  for (const std::int64_t vocabulary : {2, 15, 33, 4099}) {
    const std::vector<float> logits = normal_values(3 * vocabulary, 3, 4), teacher = normal_values(3 * vocabulary, 4, 4);
    const std::vector<float> weights = {0.25f, 0.0f, 1.5f};
    Kept kept;
    std::vector<Teacher> teachers;
    for (std::int64_t r = 0; r < 3; ++r) {
      teachers.push_back(teacher_of(row_of(teacher, r, vocabulary), std::min<std::int64_t>(vocabulary, r == 0 ? 1 : 20 * r)));
      kept.add(teachers.back());
    }
    for (const KlDirection direction : kTopKDirections) {
      for (const double t : {0.7, 2.0}) {
        on_every_target([&] {
          std::vector<float> first;
          for (const int threads : {1, 2}) {
            ThreadPool pool(threads);
            Device device{pool};
            std::vector<float> dlogits(logits.size(), 0.5f);
            Doubles losses(3);
            top_k_distillation_backward(device, logits.data(), kept.rows(vocabulary, t, direction), weights.data(), dlogits.data(),
                                        losses.data());
            for (std::int64_t r = 0; r < 3; ++r) {
              const auto at = static_cast<std::size_t>(r);
              const Doubles student = row_of(logits, r, vocabulary);
              const double loss = divergence(student, teachers[at], t, direction);
              EXPECT_NEAR(losses[at], loss, 2e-6 * (1 + loss)) << vocabulary;
              Doubles want = divergence_gradient(student, teachers[at], t, direction);
              for (double& g : want) g = 0.5 + static_cast<double>(weights[at]) * g;
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

struct Chosen {
  std::vector<std::int32_t> ids;
  std::vector<float> log_probs, rest;
};
Chosen choose(Device& device, const std::vector<float>& logits, std::int64_t rows, std::int64_t k) {
  Chosen chosen{std::vector<std::int32_t>(static_cast<std::size_t>(rows * k)),
                std::vector<float>(static_cast<std::size_t>(rows * k)), std::vector<float>(static_cast<std::size_t>(rows))};
  top_k_log_probs(device, logits.data(), rows, static_cast<std::int64_t>(logits.size()) / rows,
                  {k, chosen.ids.data(), chosen.log_probs.data(), chosen.rest.data()});
  return chosen;
}

// All tokens kept is the whole divergence, whatever the temperature.
TEST(TopKDistillation, OfTheWholeVocabularyIsDistillation) {
  ThreadPool pool(2);
  Device device{pool};
  const std::int64_t vocabulary = 301;
  const std::vector<float> student = normal_values(4 * vocabulary, 5, 3), teacher = normal_values(4 * vocabulary, 6, 3);
  const std::vector<float> weights = {1, 0.5f, 2, 0.25f};
  const Chosen all = choose(device, teacher, 4, vocabulary);
  const std::vector<std::int64_t> begin = {0, vocabulary, 2 * vocabulary, 3 * vocabulary, 4 * vocabulary};
  for (const KlDirection direction : kTopKDirections) {
    for (const double t : {0.5, 1.0, 4.0}) {
      std::vector<float> whole(student.size(), 0.0f), kept(student.size(), 0.0f);
      Doubles whole_losses(4), kept_losses(4);
      distillation_backward(device, student.data(), {teacher.data(), 4, vocabulary, t, direction}, weights.data(), whole.data(),
                            whole_losses.data());
      top_k_distillation_backward(
          device, student.data(),
          {begin.data(), all.ids.data(), all.log_probs.data(), all.rest.data(), 4, vocabulary, t, direction}, weights.data(),
          kept.data(), kept_losses.data());
      for (std::size_t r = 0; r < 4; ++r) EXPECT_NEAR(kept_losses[r], whole_losses[r], 2e-6 * (1 + whole_losses[r]));
      EXPECT_LE(relative_error(kept, as_doubles(whole)), 3e-6);
    }
  }
}

TEST(TopKDistillation, AStudentThatIsTheTeacherLearnsNothing) {
  ThreadPool pool(1);
  Device device{pool};
  const std::int64_t vocabulary = 1000;
  const std::vector<float> logits = normal_values(vocabulary, 7, 3);
  const Chosen chosen = choose(device, logits, 1, 8);
  const std::int64_t begin[] = {0, 8};
  const float weight = 1;
  for (const KlDirection direction : kTopKDirections) {
    for (const double t : {0.5, 1.0, 4.0}) {
      std::vector<float> dlogits(logits.size(), 0.0f);
      double loss = 1;
      top_k_distillation_backward(
          device, logits.data(),
          {begin, chosen.ids.data(), chosen.log_probs.data(), chosen.rest.data(), 1, vocabulary, t, direction}, &weight,
          dlogits.data(), &loss);
      EXPECT_NEAR(loss, 0, 1e-9);
      for (const float g : dlogits) EXPECT_NEAR(g, 0, 1e-6);
    }
  }
}

// The student gives the rest less than F32 can say beside its largest, the teacher gives it nearly all.
TEST(TopKDistillation, ARestFarBelowTheFirstIsNoInfinity) {
  ThreadPool pool(1);
  Device device{pool};
  on_every_target([&] {
    std::vector<float> student(40, -200.0f), teacher(40, 0.0f);
    student[3] = 0;
    const Teacher kept = teacher_of(as_doubles(teacher), 4);  // tokens 0 to 3, and 36 of 40 outside
    Kept rows;
    rows.add(kept);
    std::vector<float> dlogits(40, 0.0f);
    double loss = 0;
    const float weight = 1;
    top_k_distillation_backward(device, student.data(), rows.rows(40, 1, KlDirection::kForward), &weight, dlogits.data(), &loss);
    EXPECT_NEAR(loss, divergence(as_doubles(student), kept, 1, KlDirection::kForward), 1e-4);
    EXPECT_LE(relative_error(dlogits, divergence_gradient(as_doubles(student), kept, 1, KlDirection::kForward)), 1e-5);
  });
}

// The teacher has ruled out all but what is kept, the student has not: KL(q || p) is infinite, and was not asked for.
TEST(TopKDistillation, ForwardATeacherMayHaveNoRest) {
  ThreadPool pool(1);
  Device device{pool};
  on_every_target([&] {
    const std::vector<float> student(4, 0.0f);
    Kept rows;
    rows.add({{0, 1}, {-std::log(2.0), -std::log(2.0), -INFINITY}});
    std::vector<float> dlogits(4, 0.0f);
    double loss = 0;
    const float weight = 1;
    top_k_distillation_backward(device, student.data(), rows.rows(4, 1, KlDirection::kForward), &weight, dlogits.data(), &loss);
    EXPECT_NEAR(loss, std::log(2.0), 1e-6);
    for (std::size_t v = 0; v < 4; ++v) EXPECT_NEAR(dlogits[v], v < 2 ? -0.25 : 0.25, 1e-6) << v;
  });
}

TEST(TopK, AreTheLikeliestAndTheRestIsWhatIsLeft) {
  for (const std::int64_t vocabulary : {1, 5, 127, 128, 129, 4097}) {
    std::vector<float> logits = normal_values(3 * vocabulary, 8, 4);
    for (float& z : logits) z = std::round(z * 2) / 2;  // many are equal
    for (const std::int64_t k : {std::int64_t{1}, std::int64_t{3}, std::int64_t{64}, vocabulary - 1, vocabulary}) {
      if (k < 1 || k > vocabulary) continue;
      on_every_target([&] {
        for (const int threads : {1, 2}) {
          ThreadPool pool(threads);
          Device device{pool};
          const Chosen chosen = choose(device, logits, 3, k);
          for (std::int64_t r = 0; r < 3; ++r) {
            const Teacher want = teacher_of(row_of(logits, r, vocabulary), k);
            const std::vector<std::int32_t> ids(chosen.ids.begin() + r * k, chosen.ids.begin() + (r + 1) * k);
            EXPECT_EQ(ids, want.ids) << vocabulary << " " << k;
            for (std::int64_t i = 0; i < k; ++i)
              EXPECT_NEAR(chosen.log_probs[static_cast<std::size_t>(r * k + i)], want.outcomes[static_cast<std::size_t>(i)],
                          2e-6 * 12);
            const auto rest = static_cast<double>(chosen.rest[static_cast<std::size_t>(r)]);
            if (k == vocabulary) {
              EXPECT_EQ(rest, -INFINITY);
            } else {
              EXPECT_NEAR(rest, want.outcomes.back(), 2e-6 * 12);
            }
          }
        }
      });
    }
  }
}

TEST(TopK, ACertainTeachersRestDoesNotCancel) {
  ThreadPool pool(1);
  Device device{pool};
  const std::vector<float> logits = {0, 60, 1, 0.5f};
  const Chosen chosen = choose(device, logits, 1, 1);
  EXPECT_EQ(chosen.ids[0], 1);
  EXPECT_NEAR(chosen.log_probs[0], 0, 1e-20);
  EXPECT_NEAR(chosen.rest[0], std::log(1 + std::exp(1.0) + std::exp(0.5)) - 60, 1e-5);
}

TEST(TopK, NotANumberShows) {
  ThreadPool pool(1);
  Device device{pool};
  for (std::size_t at = 0; at < 300; at += 37) {
    std::vector<float> logits = normal_values(300, 9);
    logits[at] = std::numeric_limits<float>::quiet_NaN();
    const Chosen chosen = choose(device, logits, 1, 4);
    EXPECT_TRUE(std::isnan(chosen.log_probs[0])) << at;
  }
}

}  // namespace
}  // namespace puna
