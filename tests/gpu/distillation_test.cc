// SPDX-License-Identifier: Apache-2.0
// What distillation adds to the GPU's operations, against the CPU's, which are held against F64 in tests/kernels: divergences from
// a teacher's logits and from its likeliest tokens, and which tokens these are.
#include <cmath>
#include <limits>

#include "gpu/gpu_fixture.h"
#include "kernels/cross_entropy.h"
#include "kernels/top_k.h"

namespace puna {
namespace {

constexpr KlDirection kDirections[] = {KlDirection::kForward, KlDirection::kReverse, KlDirection::kSymmetric};
constexpr std::int64_t kRows = 3;
const std::vector<float> kWeights{0.25f, 0.0f, 1.5f};  // [kRows]

// Whose logits are -infinity at every fifth token but the first.
enum class RuledOut { kNobody, kBoth, kTeacher, kStudent };

struct Pair {
  std::vector<float> student, teacher;  // [kRows, V]

  Pair(std::int64_t vocabulary, RuledOut by)
      : student(normal_values(kRows * vocabulary, 3, 4)), teacher(normal_values(kRows * vocabulary, 4, 4)) {
    for (std::int64_t i = 0; i < kRows * vocabulary; ++i) {
      if (i % vocabulary % 5 != 4) continue;
      if (by == RuledOut::kBoth || by == RuledOut::kTeacher) teacher[as_size(i)] = -INFINITY;
      if (by == RuledOut::kBoth || by == RuledOut::kStudent) student[as_size(i)] = -INFINITY;
    }
  }
};

// The pairs of which `direction` is finite.
std::vector<RuledOut> finite_for(KlDirection direction) {
  std::vector<RuledOut> all{RuledOut::kNobody, RuledOut::kBoth};
  if (direction == KlDirection::kForward) all.push_back(RuledOut::kTeacher);
  if (direction == KlDirection::kReverse) all.push_back(RuledOut::kStudent);
  return all;
}

struct Learned {
  std::vector<float> dlogits;  // [kRows, V], 0.5 more than the gradient
  Doubles losses;              // [kRows]
  bool operator==(const Learned&) const = default;
};

struct Chosen {
  std::vector<std::int32_t> ids;       // [R, k]
  std::vector<float> log_probs, rest;  // [R, k], [R]
};

// logits: the device's memory.
Chosen choose(Device& on, const float* logits, std::int64_t rows, std::int64_t vocabulary, std::int64_t k) {
  Chosen chosen{std::vector<std::int32_t>(as_size(rows * k), -1), std::vector<float>(as_size(rows * k), NAN),
                std::vector<float>(as_size(rows), NAN)};
  top_k_log_probs(on, logits, rows, vocabulary, {k, chosen.ids.data(), chosen.log_probs.data(), chosen.rest.data()});
  return chosen;
}

// Stored rows with different numbers of tokens: k, 1 and V of them.
struct Stored {
  std::vector<std::int64_t> begin{0};
  std::vector<std::int32_t> ids;
  std::vector<float> log_probs, rest;

  Stored(Device& cpu, const std::vector<float>& teacher, std::int64_t vocabulary, std::int64_t k) {
    const std::int64_t counts[kRows] = {k, 1, vocabulary};
    for (std::int64_t r = 0; r < kRows; ++r) {
      const Chosen row = choose(cpu, teacher.data() + r * vocabulary, 1, vocabulary, counts[r]);
      ids.insert(ids.end(), row.ids.begin(), row.ids.end());
      log_probs.insert(log_probs.end(), row.log_probs.begin(), row.log_probs.end());
      rest.push_back(row.rest[0]);
      begin.push_back(static_cast<std::int64_t>(ids.size()));
    }
  }
};

class GpuDistillation : public GpuTest {
 protected:
  Learned learn(const Pair& pair, std::int64_t vocabulary, double temperature, KlDirection direction, std::size_t shift) {
    const GpuArray<float> student(device, pair.student, shift), teacher(device, pair.teacher, shift), weights(device, kWeights),
        dlogits(device, std::vector<float>(pair.student.size(), 0.5f), shift);
    Doubles losses(kRows, NAN);
    distillation_backward(device, student.data(), {teacher.data(), kRows, vocabulary, temperature, direction}, weights.data(),
                          dlogits.data(), losses.data());
    return {dlogits.read(), losses};
  }
  Learned learn_on_cpu(const Pair& pair, std::int64_t vocabulary, double temperature, KlDirection direction) {
    Learned learned{std::vector<float>(pair.student.size(), 0.5f), Doubles(kRows, NAN)};
    distillation_backward(cpu, pair.student.data(), {pair.teacher.data(), kRows, vocabulary, temperature, direction},
                          kWeights.data(), learned.dlogits.data(), learned.losses.data());
    return learned;
  }

  Learned learn_kept(const std::vector<float>& logits, const Stored& stored, double temperature, KlDirection direction,
                     std::size_t shift) {
    const std::int64_t vocabulary = static_cast<std::int64_t>(logits.size()) / kRows;
    const GpuArray<float> student(device, logits, shift), log_probs(device, stored.log_probs), rest(device, stored.rest),
        weights(device, kWeights), dlogits(device, std::vector<float>(logits.size(), 0.5f), shift);
    const GpuArray<std::int64_t> begin(device, stored.begin);
    const GpuArray<std::int32_t> ids(device, stored.ids);
    Doubles losses(kRows, NAN);
    top_k_distillation_backward(
        device, student.data(),
        {begin.data(), ids.data(), log_probs.data(), rest.data(), kRows, vocabulary, temperature, direction}, weights.data(),
        dlogits.data(), losses.data());
    return {dlogits.read(), losses};
  }
  Learned learn_kept_on_cpu(const std::vector<float>& student, const Stored& stored, double temperature, KlDirection direction) {
    Learned learned{std::vector<float>(student.size(), 0.5f), Doubles(kRows, NAN)};
    top_k_distillation_backward(cpu, student.data(),
                                {stored.begin.data(), stored.ids.data(), stored.log_probs.data(), stored.rest.data(), kRows,
                                 static_cast<std::int64_t>(student.size()) / kRows, temperature, direction},
                                kWeights.data(), learned.dlogits.data(), learned.losses.data());
    return learned;
  }

  void expect_same(const Learned& got, const Learned& want, const std::string& what) {
    expect_close(got.dlogits, as_doubles(want.dlogits), 5e-6, what);
    for (std::size_t r = 0; r < as_size(kRows); ++r)
      EXPECT_NEAR(got.losses[r], want.losses[r], 5e-6 * (1 + std::abs(want.losses[r]))) << what << " row " << r;
  }

  // Ids bit for bit, log-probabilities within the rounding of F32 exponentials.
  void expect_chosen(const std::vector<float>& logits, std::int64_t rows, std::int64_t k, std::size_t shift) {
    const std::int64_t vocabulary = static_cast<std::int64_t>(logits.size()) / rows;
    const GpuArray<float> on_gpu(device, logits, shift);
    const Chosen got = choose(device, on_gpu.data(), rows, vocabulary, k), want = choose(cpu, logits.data(), rows, vocabulary, k);
    EXPECT_EQ(got.ids, want.ids) << vocabulary << " " << k;
    const auto expect_near = [&](float found, float expected) {
      if (std::isinf(expected)) {
        EXPECT_EQ(found, expected) << vocabulary << " " << k;
      } else {
        EXPECT_NEAR(found, expected, 2e-6 * (1 + std::abs(expected))) << vocabulary << " " << k;
      }
    };
    for (std::size_t i = 0; i < want.log_probs.size(); ++i) expect_near(got.log_probs[i], want.log_probs[i]);
    for (std::size_t r = 0; r < want.rest.size(); ++r) expect_near(got.rest[r], want.rest[r]);
    EXPECT_EQ(on_gpu.read(), logits);
  }
};

TEST_F(GpuDistillation, DivergencesAndTheirGradientsEqualTheCpus) {
  for (const std::int64_t vocabulary : {2, 15, 33, 512, 4099, 32004}) {
    if (is_emulated() && vocabulary > 5000) continue;
    for (const KlDirection direction : kDirections) {
      for (const RuledOut by : finite_for(direction)) {
        const Pair pair(vocabulary, by);
        for (const double t : {0.7, 1.0, 2.0}) {
          const std::size_t shift = t < 1 ? 1 : 0;
          expect_same(learn(pair, vocabulary, t, direction, shift), learn_on_cpu(pair, vocabulary, t, direction),
                      fmt::format("vocabulary {} direction {} t {} ruled out {}", vocabulary, static_cast<int>(direction), t,
                                  static_cast<int>(by)));
        }
      }
    }
  }
}

TEST_F(GpuDistillation, AStudentThatIsTheTeacherLearnsNothing) {
  Pair pair(1000, RuledOut::kBoth);
  pair.student = pair.teacher;
  const Stored stored(cpu, pair.teacher, 1000, 8);
  for (const KlDirection direction : kDirections) {
    const Learned whole = learn(pair, 1000, 1.5, direction, 0), kept = learn_kept(pair.student, stored, 1.5, direction, 0);
    for (const Learned* learned : {&whole, &kept}) {
      for (const double loss : learned->losses) EXPECT_NEAR(loss, 0, 1e-6);
      for (const float slope : learned->dlogits) EXPECT_NEAR(slope, 0.5f, 1e-6);
    }
  }
}

TEST_F(GpuDistillation, WhatIsNoNumberShows) {
  for (const std::size_t at : {0, 77, 299}) {
    Pair pair(300, RuledOut::kNobody);
    pair.teacher[at] = NAN;
    EXPECT_TRUE(std::isnan(learn(pair, 300, 1, KlDirection::kForward, 0).losses[0])) << at;
    std::swap(pair.teacher, pair.student);
    EXPECT_TRUE(std::isnan(learn(pair, 300, 1, KlDirection::kReverse, 0).losses[0])) << at;
    const Stored stored(cpu, pair.teacher, 300, 5);
    const Learned kept = learn_kept(pair.student, stored, 1, KlDirection::kForward, 0);
    EXPECT_TRUE(std::isnan(kept.losses[0])) << at;
    EXPECT_FALSE(std::isnan(kept.losses[2])) << at;
  }
}

TEST_F(GpuDistillation, FromKeptTokensEqualsTheCpus) {
  for (const std::int64_t vocabulary : {1, 2, 15, 33, 512, 4099, 70001, 131076}) {  // in one, two and three tiles of marks
    if (is_emulated() && vocabulary > 5000) continue;
    for (const KlDirection direction : kDirections) {
      for (const RuledOut by : {RuledOut::kNobody, RuledOut::kBoth}) {
        const Pair pair(vocabulary, by);
        const Stored stored(cpu, pair.teacher, vocabulary, std::min<std::int64_t>(vocabulary, 64));
        for (const double t : {0.7, 1.0, 2.0}) {
          const std::size_t shift = t < 1 ? 1 : 0;
          expect_same(learn_kept(pair.student, stored, t, direction, shift), learn_kept_on_cpu(pair.student, stored, t, direction),
                      fmt::format("kept of {} direction {} t {} ruled out {}", vocabulary, static_cast<int>(direction), t,
                                  static_cast<int>(by)));
        }
      }
    }
  }
}

// The student gives the rest less than F32 can say beside its largest, the teacher gives it nearly all.
TEST_F(GpuDistillation, ARestFarBelowTheFirstIsNoInfinity) {
  std::vector<float> student(as_size(kRows * 40), -200.0f);
  for (const std::size_t first : {3, 43, 83}) student[first] = 0;
  const Stored stored(cpu, std::vector<float>(student.size(), 0.0f), 40, 4);
  const Learned got = learn_kept(student, stored, 1, KlDirection::kForward, 0);
  const Learned want = learn_kept_on_cpu(student, stored, 1, KlDirection::kForward);
  EXPECT_NEAR(got.losses[0], want.losses[0], 1e-4);
  EXPECT_LE(relative_error(got.dlogits, as_doubles(want.dlogits)), 1e-5);
}

TEST_F(GpuDistillation, TheLikeliestAreTheCpus) {
  for (const std::int64_t vocabulary : {1, 5, 31, 127, 128, 2048, 4097, 70004}) {
    if (is_emulated() && vocabulary > 5000) continue;
    std::vector<float> logits = normal_values(kRows * vocabulary, 8, 4);
    for (float& z : logits) z = std::round(z * 2) / 2;  // many are equal, and some are -0
    std::vector<float> equal(logits.size(), 0.25f), masked = logits;
    for (std::size_t i = 0; i < masked.size(); ++i) {
      if (i % as_size(vocabulary) % 3 != 0) masked[i] = -INFINITY;
    }
    for (const std::int64_t k : {std::int64_t{1}, std::int64_t{3}, std::int64_t{64}, vocabulary - 1, vocabulary}) {
      if (k < 1 || k > vocabulary) continue;
      for (const std::size_t shift : {0, 1}) {
        expect_chosen(logits, kRows, k, shift);
        expect_chosen(equal, kRows, k, shift);
        expect_chosen(masked, kRows, k, shift);
      }
    }
  }
}

// More results than the workspace has room for: 250 rows of 0.3 MB each.
TEST_F(GpuDistillation, ManyResultsComeInPieces) {
  if (is_emulated()) GTEST_SKIP() << "too many rows for it";
  const std::int64_t rows = 250, vocabulary = 40000;
  std::vector<float> logits = normal_values(rows * vocabulary, 9, 4);
  expect_chosen(logits, rows, vocabulary - 1, 0);
}

TEST_F(GpuDistillation, NotANumberShowsAmongTheLikeliest) {
  for (std::size_t at = 0; at < 300; at += 37) {
    std::vector<float> logits = normal_values(300, 9);
    logits[at] = at % 2 == 0 ? std::numeric_limits<float>::quiet_NaN() : -std::numeric_limits<float>::quiet_NaN();
    const GpuArray<float> on_gpu(device, logits);
    for (const std::int64_t k : {1, 4, 300}) {
      for (const float log_prob : choose(device, on_gpu.data(), 1, 300, k).log_probs) EXPECT_TRUE(std::isnan(log_prob)) << at;
    }
  }
}

TEST_F(GpuDistillation, ComesOutTheSameEveryTime) {
  const Pair pair(4099, RuledOut::kNobody);
  const Stored stored(cpu, pair.teacher, 4099, 64);
  EXPECT_EQ(learn(pair, 4099, 2, KlDirection::kSymmetric, 0), learn(pair, 4099, 2, KlDirection::kSymmetric, 0));
  EXPECT_EQ(learn_kept(pair.student, stored, 2, KlDirection::kSymmetric, 0),
            learn_kept(pair.student, stored, 2, KlDirection::kSymmetric, 0));
}

}  // namespace
}  // namespace puna
