// SPDX-License-Identifier: Apache-2.0
// The output head cut into chunks against itself in one piece, and against plain loops in double precision.
#include "train/output_head.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "base/as_size.h"
#include "base/random.h"
#include "expect_error.h"
#include "model/tiny_checkpoint.h"

namespace puna {
namespace {

std::vector<float> normals(std::size_t count, std::uint64_t stream) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(random_normal(2, stream, i));
  return values;
}

struct HeadRig {
  explicit HeadRig(Trained trained = Trained::kWeights, bool tied = false, std::int64_t max_rows = 64)
      : parameters(tiny_checkpoint(config(tied), Format::kF32), {.trained = trained, .lora = {.rank = 2}}, device),
        head(parameters, device, max_rows) {}
  static ModelConfig config(bool tied) {
    ModelConfig config = tiny_config();
    config.tied_embeddings = tied;
    return config;
  }
  TargetedRows targeted() const { return {hidden, rows, targets}; }

  ThreadPool pool{2};
  Device device{pool};
  Parameters parameters;
  OutputHead head;
  std::vector<float> hidden = normals(40 * 256, 1);
  std::vector<std::int32_t> rows{0, 1, 5, 6, 7, 12, 13, 20, 33, 39}, targets{3, 95, 0, 17, 17, 40, 8, 2, 60, 61};
  std::vector<float> weights{1, 0.5f, -2, 0.25f, 1, 1, -0.5f, 0.125f, 3, 1};
};

// Plain loops: log p, and the gradient of -sum w log p.
struct Expected {
  std::vector<double> log_probs, dhidden, dw;
};
Expected expected(const HeadRig& rig) {
  const Tensor& output = rig.parameters.weights().output;
  const auto* const w = reinterpret_cast<const float*>(output.bytes.data());
  Expected result{{}, std::vector<double>(rig.hidden.size()), std::vector<double>(96 * 256)};
  for (std::size_t i = 0; i < rig.rows.size(); ++i) {
    const std::size_t row = static_cast<std::size_t>(rig.rows[i]) * 256, target = static_cast<std::size_t>(rig.targets[i]);
    std::vector<double> logits(96);
    double sum = 0;
    for (std::size_t v = 0; v < 96; ++v) {
      for (std::size_t d = 0; d < 256; ++d)
        logits[v] += static_cast<double>(w[v * 256 + d]) * static_cast<double>(rig.hidden[row + d]);
      sum += std::exp(logits[v]);
    }
    result.log_probs.push_back(logits[target] - std::log(sum));
    for (std::size_t v = 0; v < 96; ++v) {
      const double slope = static_cast<double>(rig.weights[i]) * (std::exp(logits[v]) / sum - (v == target ? 1 : 0));
      for (std::size_t d = 0; d < 256; ++d) {
        result.dhidden[row + d] += slope * static_cast<double>(w[v * 256 + d]);
        result.dw[v * 256 + d] += slope * static_cast<double>(rig.hidden[row + d]);
      }
    }
  }
  return result;
}

template <typename Expected>
void expect_near(std::span<const float> found, const Expected& expected, double tolerance) {
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    ASSERT_NEAR(found[i], expected[i], tolerance * (1 + std::fabs(static_cast<double>(expected[i])))) << i;
  }
}

TEST(OutputHead, AgreesWithPlainLoopsInChunksAndWhole) {
  for (const std::int64_t max_rows : {64, 3}) {
    HeadRig rig(Trained::kWeights, false, max_rows);
    const Expected plain = expected(rig);
    std::vector<double> log_probs(rig.rows.size()), again(rig.rows.size());
    rig.head.log_probs(rig.targeted(), log_probs);
    std::vector<float> dhidden(rig.hidden.size());
    rig.head.backward(rig.targeted(), rig.weights, dhidden, again);
    for (std::size_t i = 0; i < log_probs.size(); ++i) {
      EXPECT_NEAR(log_probs[i], plain.log_probs[i], 1e-4);
      EXPECT_NEAR(again[i], log_probs[i], 1e-9);
    }
    expect_near(dhidden, plain.dhidden, 1e-5);
    expect_near(rig.parameters.find("lm_head.weight").gradient, plain.dw, 1e-5);
  }
}

TEST(OutputHead, AddsToTheTiedEmbedding) {
  HeadRig rig(Trained::kWeights, true);
  std::vector<float> dhidden(rig.hidden.size());
  std::vector<double> log_probs(rig.rows.size());
  const std::span<float> gradient = rig.parameters.find("model.embed_tokens.weight").gradient;
  std::ranges::fill(gradient, 1.0f);
  rig.head.backward(rig.targeted(), rig.weights, dhidden, log_probs);
  std::vector<double> plain = expected(rig).dw;
  for (double& value : plain) value += 1;
  expect_near(gradient, plain, 5e-5);  // logits of some hundreds
}

TEST(OutputHead, GivesAFrozenMatrixNoGradient) {
  HeadRig rig(Trained::kAdapters);
  std::vector<float> dhidden(rig.hidden.size());
  std::vector<double> log_probs(rig.rows.size());
  rig.head.backward(rig.targeted(), rig.weights, dhidden, log_probs);
  expect_near(dhidden, expected(rig).dhidden, 1e-5);
  for (const float gradient : rig.parameters.gradient_arena()) EXPECT_EQ(gradient, 0);
}

std::int64_t padded(std::size_t bytes) { return static_cast<std::int64_t>(Arena::padded(bytes)); }

TEST(OutputHead, HoldsThirtyTwoMegabytesOfLogits) {
  ModelConfig config = tiny_config();
  config.vocabulary = 128256;  // 65 rows in 32 MB, 64 in whole panels
  const std::int64_t logits = 64 * 128256 * 4, buffers = (2 * 256 + 5) * 64 * 4 + ActivationBuffer::bytes(64, 256);
  EXPECT_EQ(OutputHead::bytes(config, 4096), logits + buffers);
  // In distillation their gradient, and of a stored teacher's rows 128256 tokens, more than 256 of each.
  EXPECT_EQ(OutputHead::bytes(config, 4096, true), 2 * logits + buffers + 2 * 128256 * 4 + padded(65 * 8) + 64 * 4);
  EXPECT_LT(OutputHead::bytes(config, 8), OutputHead::bytes(config, 4096) / 7);
  // A rank of four has a quarter of the columns, of four times as many rows.
  EXPECT_EQ(OutputHead::bytes(config, 4096, false, false, 4), logits + (2 * 256 + 5) * 256 * 4 + ActivationBuffer::bytes(256, 256));
}

TEST(OutputHead, HoldsAGigabyteOfLogitsOnAGpuAndAsMuchOfTheirGradient) {
  ModelConfig config = tiny_config();
  config.vocabulary = 128256;  // 2093 rows in 1 GB, in whole panels
  const std::int64_t chunk = 2093 / kPanelWidth * kPanelWidth, logits = chunk * 128256 * 4;
  EXPECT_EQ(OutputHead::bytes(config, 4096, true, true) - OutputHead::bytes(config, 4096, false, true),
            logits + padded(as_size(chunk + 1) * 8) + 2 * padded(as_size(chunk) * 256 * 4) + padded(as_size(chunk) * 4));
  EXPECT_GT(OutputHead::bytes(config, 4096, false, true), logits);
  EXPECT_LT(OutputHead::bytes(config, 4096, false, true), logits + (std::int64_t{16} << 20));
}

// Hidden rows of a student against those of a teacher with a larger chunk: cut where the student's chunks are.
TEST(OutputHead, DistilsInChunksAsInOnePiece) {
  HeadRig whole, cut(Trained::kWeights, false, 3), teacher(Trained::kNothing);
  const std::vector<float> teacher_hidden = normals(40 * 256, 2);
  std::vector<double> log_probs(10), divergences(10), other_log_probs(10), other_divergences(10);
  std::vector<float> dhidden(40 * 256), other_dhidden(40 * 256);
  const OutputHead::Teacher says{teacher.head, teacher_hidden, 0.3, 2, KlDirection::kSymmetric};
  whole.head.distill(whole.targeted(), says, whole.weights, dhidden, {log_probs, divergences});
  cut.head.distill(cut.targeted(), says, cut.weights, other_dhidden, {other_log_probs, other_divergences});
  expect_near(other_dhidden, dhidden, 1e-5);
  expect_near(cut.parameters.find("lm_head.weight").gradient, whole.parameters.find("lm_head.weight").gradient, 1e-5);
  for (std::size_t i = 0; i < 10; ++i) {
    EXPECT_NEAR(other_log_probs[i], log_probs[i], 1e-6 * (1 + std::fabs(log_probs[i])));
    EXPECT_NEAR(other_divergences[i], divergences[i], 1e-6 * (1 + divergences[i]));
  }
  cut.head.distill(cut.targeted(), says, cut.weights, {}, {other_log_probs, other_divergences});  // figures alone
  EXPECT_NEAR(other_divergences[9], divergences[9], 1e-6 * (1 + divergences[9]));
}

TEST(OutputHead, RefusesRowsThatDoNotAscend) {
  HeadRig rig;
  std::vector<double> log_probs(rig.rows.size());
  rig.rows[3] = rig.rows[2];
  expect_error(ErrorKind::kInternal, "row 5 behind row 5", [&] { rig.head.log_probs(rig.targeted(), log_probs); });
}

TEST(OutputHead, RefusesTargetsOutsideTheVocabulary) {
  HeadRig rig;
  rig.targets[2] = 96;
  std::vector<double> log_probs(rig.rows.size());
  expect_error(ErrorKind::kBadInput, "target 96 of row 5 is outside the vocabulary: ids are 0 to 95",
               [&] { rig.head.log_probs(rig.targeted(), log_probs); });
}

}  // namespace
}  // namespace puna
