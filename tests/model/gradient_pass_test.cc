// SPDX-License-Identifier: Apache-2.0
// Gradients of the whole network against central differences of an independent double-precision one, and the identities that
// training rests on: packing, recomputation, threads and the serving path change nothing.
#include "model/gradient_pass.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "expect_error.h"
#include "kernels/matmul.h"
#include "model/llama.h"
#include "model/packed_oracle.h"
#include "model/ranked_parameters.h"
#include "model/tiny_checkpoint.h"

namespace puna {
namespace {

ModelConfig small_config(bool tied = false) {
  ModelConfig config;
  config.name = "small";
  config.layers = 2;
  config.width = 16;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_width = 6;
  config.feed_forward = 20;
  config.vocabulary = 24;
  config.context = 64;
  config.rope_theta = 1000;
  config.rope_pairing = RopePairing::kHalves;
  config.tied_embeddings = tied;
  return config;
}

// A packed batch: a document, and a prompt with two answers that do not see each other.
struct Packed {
  std::vector<Token> tokens = random_tokens(17, 24);
  std::vector<std::int32_t> positions{0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 6, 4, 5, 6, 7, 8};
  std::vector<PackedSegment> segments{{0, 5}, {5, 4}, {9, 3, 5, 4}, {12, 5, 5, 4}};
  PassRows rows() const { return {tokens, positions, segments}; }
};

// A random direction in the space of hidden: the loss is its product with hidden.
std::vector<float> direction(std::size_t count) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(random_normal(3, 5, i));
  return values;
}

double loss_along(const PackedOracle::Rows& hidden, std::span<const float> direction) {
  double loss = 0;
  std::size_t i = 0;
  for (const PackedOracle::Row& row : hidden) {
    for (const double value : row) loss += value * static_cast<double>(direction[i++]);
  }
  return loss;
}

struct Agreement {
  double relative, cosine;
};
Agreement compare(std::span<const float> found, std::span<const double> expected) {
  double difference = 0, norm = 0, own = 0, dot = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double f = static_cast<double>(found[i]);
    difference += (f - expected[i]) * (f - expected[i]);
    norm += expected[i] * expected[i];
    own += f * f;
    dot += f * expected[i];
  }
  return {std::sqrt(difference / norm), dot / std::sqrt(norm * own)};
}

// Every trained tensor's gradient of a linear loss over hidden against central differences.
void expect_gradients(Parameters& parameters, double lora_scale) {
  ThreadPool pool(2);
  const Packed packed;
  GradientPass pass(parameters, Device{pool}, 32, Keep::kAllActivations);
  Device device{pool};
  parameters.zero_gradients(device);
  const std::span<const float> hidden = pass.forward(packed.rows());
  const std::vector<float> along = direction(hidden.size());
  pass.backward(along);

  const PackedOracle oracle(parameters.config(), lora_scale);
  PackedOracle::Values values = PackedOracle::values(parameters);
  for (const Parameter& parameter : parameters.all()) {
    std::vector<double>& value = values.at(parameter.name);
    std::vector<double> expected(value.size());
    for (std::size_t i = 0; i < value.size(); ++i) {
      const double original = value[i], step = 1e-4;
      value[i] = original + step;
      const double above = loss_along(oracle.hidden(values, packed.rows()), along);
      value[i] = original - step;
      const double below = loss_along(oracle.hidden(values, packed.rows()), along);
      value[i] = original;
      expected[i] = (above - below) / (2 * step);
    }
    if (parameter.name == "lm_head.weight") continue;  // not part of hidden
    const Agreement agreement = compare(parameter.gradient, expected);
    EXPECT_LT(agreement.relative, 1e-5) << parameter.name;
    EXPECT_GT(agreement.cosine, 0.9999999) << parameter.name;
  }
}

TEST(GradientPass, GradientsAreCentralDifferences) {
  ThreadPool pool(2);
  Parameters parameters(tiny_checkpoint(small_config(), Format::kF32), {}, Device{pool});
  EXPECT_EQ(parameters.all().size(), 2u * 9 + 3);
  expect_gradients(parameters, 0);
}

// B is moved away from zero, so that A has a gradient.
void stir(Parameters& parameters, double spread = 0.2) {
  for (Parameter& parameter : parameters.all()) {
    for (std::size_t i = 0; i < parameter.value.size(); ++i) {
      parameter.value[i] += static_cast<float>(spread * random_normal(11, std::hash<std::string>{}(parameter.name), i));
    }
  }
}

TEST(GradientPass, AdaptersOverFrozenBf16AreCentralDifferences) {
  ThreadPool pool(2);
  TrainChoice choice{.trained = Trained::kAdapters};
  choice.lora.rank = 3;
  choice.lora.alpha = 5;
  Parameters parameters(tiny_checkpoint(small_config(), Format::kBF16), choice, Device{pool});
  EXPECT_EQ(parameters.all().size(), 2u * 7 * 2);
  stir(parameters);
  expect_gradients(parameters, 5.0 / 3);
}

// Forward and backward once; hidden and all gradients.
struct Result {
  std::vector<float> hidden, gradients;
  bool operator==(const Result&) const = default;
};
Result run(Parameters& parameters, int threads, Keep keep, const PassRows& rows) {
  ThreadPool pool(threads);
  Device device{pool};
  GradientPass pass(parameters, device, static_cast<std::int64_t>(rows.tokens.size()), keep);
  parameters.zero_gradients(device);
  Result result;
  const std::span<const float> hidden = pass.forward(rows);
  result.hidden.assign(hidden.begin(), hidden.end());
  pass.backward(direction(hidden.size()));
  const std::span<const float> gradients = parameters.gradient_arena();
  result.gradients.assign(gradients.begin(), gradients.end());
  return result;
}

class Trainings : public testing::TestWithParam<Trained> {
 protected:
  Trainings() : parameters_(tiny_checkpoint(tiny_config(), Format::kF32), choice(), Device{pool_}) { stir(parameters_); }
  static TrainChoice choice() { return {.trained = GetParam(), .lora = {.rank = 5}}; }
  ThreadPool pool_{2};
  Parameters parameters_;
};

TEST_P(Trainings, RecomputedBlocksGiveEqualBits) {
  const Packed packed;
  EXPECT_EQ(run(parameters_, 2, Keep::kAllActivations, packed.rows()), run(parameters_, 2, Keep::kBlockInputs, packed.rows()));
}

TEST_P(Trainings, OneAndTwoThreadsGiveEqualBits) {
  const Packed packed;
  EXPECT_EQ(run(parameters_, 1, Keep::kAllActivations, packed.rows()), run(parameters_, 2, Keep::kAllActivations, packed.rows()));
}

INSTANTIATE_TEST_SUITE_P(All, Trainings, testing::Values(Trained::kWeights, Trained::kAdapters),
                         [](const auto& parameter) { return parameter.param == Trained::kWeights ? "weights" : "adapters"; });

// The largest difference, in parts of the largest value.
double distance(std::span<const float> a, std::span<const float> b) {
  EXPECT_EQ(a.size(), b.size());
  double difference = 0, largest = 0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    difference = std::max(difference, std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
    largest = std::max(largest, std::fabs(static_cast<double>(b[i])));
  }
  return std::isfinite(largest) && largest > 0 ? difference / largest : INFINITY;
}

// Documents one by one, each answer behind its own copy of the prompt.
TEST(GradientPass, PackedRowsAreSeparateDocuments) {
  ThreadPool pool(2);
  Device device{pool};
  Parameters parameters(tiny_checkpoint(tiny_config(), Format::kF32), {}, device);
  const Packed packed;
  const Result together = run(parameters, 2, Keep::kAllActivations, packed.rows());
  const std::vector<float> along = direction(together.hidden.size());

  GradientPass pass(parameters, device, 16, Keep::kAllActivations);
  parameters.zero_gradients(device);
  const std::size_t width = 256;
  std::vector<float> hidden(together.hidden.size());
  for (const PackedSegment& segment : packed.segments) {
    std::vector<std::int64_t> from(static_cast<std::size_t>(segment.prefix_rows + segment.rows));  // rows of the batch
    std::iota(from.begin(), from.begin() + segment.prefix_rows, segment.prefix_row);
    std::iota(from.begin() + segment.prefix_rows, from.end(), segment.first_row);
    std::vector<Token> tokens;
    std::vector<std::int32_t> positions;
    std::vector<float> part;
    for (std::size_t i = 0; i < from.size(); ++i) {
      const auto row = static_cast<std::size_t>(from[i]);
      tokens.push_back(packed.tokens[row]);
      positions.push_back(static_cast<std::int32_t>(i));
      const bool own = from[i] >= segment.first_row;
      for (std::size_t d = 0; d < width; ++d) part.push_back(own ? along[row * width + d] : 0);
    }
    const std::vector<PackedSegment> whole{{0, static_cast<std::int64_t>(from.size())}};
    const std::span<const float> alone = pass.forward({tokens, positions, whole});
    std::copy(alone.end() - segment.rows * static_cast<std::int64_t>(width), alone.end(),
              hidden.begin() + segment.first_row * static_cast<std::int64_t>(width));
    pass.backward(part);
  }
  const std::span<const float> apart = parameters.gradient_arena();
  // Shorter sums are rounded elsewhere. One row seen across a border changes the first by 1e-2.
  EXPECT_LT(compare(together.hidden, std::vector<double>(hidden.begin(), hidden.end())).relative, 1e-6);
  EXPECT_LT(compare(together.gradients, std::vector<double>(apart.begin(), apart.end())).relative, 3e-6);
}

// Logits [T, V] of one document as the serving path computes them.
std::vector<float> serve(const std::shared_ptr<const Checkpoint>& checkpoint, std::span<const Token> tokens) {
  ThreadPool pool(2);
  const auto rows = static_cast<std::int64_t>(tokens.size());
  Llama model(checkpoint, Device{pool}, rows, rows);
  KvCache cache(checkpoint->config, Format::kF32, 64);
  std::vector<std::int32_t> wanted(tokens.size());
  std::iota(wanted.begin(), wanted.end(), 0);
  const std::vector<Batch::Part> parts{{cache.add_sequence(), rows}};
  const std::span<const float> logits = model.forward({tokens, parts, wanted}, cache);
  return {logits.begin(), logits.end()};
}

// The same as training computes them.
std::vector<float> logits_of_pass(Parameters& parameters, std::span<const Token> tokens, bool with_adapters = true) {
  ThreadPool pool(2);
  Device device{pool};
  const auto rows = static_cast<std::int64_t>(tokens.size());
  GradientPass pass(parameters, device, rows, Keep::kNothing);
  std::vector<std::int32_t> positions(tokens.size());
  std::iota(positions.begin(), positions.end(), 0);
  const std::vector<PackedSegment> segments{{0, rows}};
  const std::span<const float> hidden = pass.forward({tokens, positions, segments, with_adapters});
  const ModelConfig& config = parameters.config();
  std::vector<float> logits(static_cast<std::size_t>(rows * config.vocabulary));
  ActivationBuffer buffer(rows, config.width);
  Activations x = buffer.prepare(hidden.data(), rows, config.width);
  const std::array<Product, 1> products{{{&parameters.weights().output, logits.data(), config.vocabulary}}};
  matmul_forward(device, x, products);
  return logits;
}

class ServingFormats : public testing::TestWithParam<Format> {};

TEST_P(ServingFormats, TrainingAndServingAgree) {
  ThreadPool pool(2);
  const auto checkpoint = tiny_checkpoint(tiny_config(), GetParam());
  TrainChoice choice{.trained = Trained::kAdapters};
  choice.lora.rank = 8;
  Parameters parameters(checkpoint, choice, Device{pool});
  const std::vector<Token> tokens = random_tokens(40, 96);
  EXPECT_EQ(logits_of_pass(parameters, tokens), logits_of_pass(parameters, tokens, false)) << "new adapters change nothing";
  EXPECT_LT(distance(logits_of_pass(parameters, tokens), serve(checkpoint, tokens)), 1e-5);
  stir(parameters);
  const std::vector<float> adapted = logits_of_pass(parameters, tokens);
  EXPECT_GT(distance(adapted, serve(checkpoint, tokens)), 1e-2);
  EXPECT_LT(distance(adapted, serve(RankedParameters(parameters).view(), tokens)), 1e-5);
  EXPECT_LT(distance(logits_of_pass(parameters, tokens, false), serve(checkpoint, tokens)), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Some, ServingFormats, testing::Values(Format::kF32, Format::kBF16),
                         [](const auto& parameter) { return std::string(puna::info(parameter.param).name); });

TEST(GradientPass, MergedAdaptersGiveTheSameLogits) {
  ThreadPool pool(2);
  const auto checkpoint = tiny_checkpoint(tiny_config(), Format::kF32);
  TrainChoice choice{.trained = Trained::kAdapters};
  choice.lora.rank = 4;
  choice.lora.alpha = 6;
  Parameters adapted(checkpoint, choice, Device{pool}), merged(checkpoint, {}, Device{pool});
  stir(adapted);
  for (std::size_t l = 0; l < 2; ++l) {
    for (const WeightRole role : kAdaptedRoles) {
      const std::string name = weight_name(role, &WeightRoleInfo::hugging_face, static_cast<std::int64_t>(l));
      const std::string module = "base_model.model." + name.substr(0, name.rfind('.'));
      const Parameter &a = adapted.find(module + ".lora_A.weight"), &b = adapted.find(module + ".lora_B.weight");
      Parameter& w = merged.find(name);
      const auto inputs = static_cast<std::size_t>(w.shape[1]);
      for (std::size_t i = 0; i < w.value.size(); ++i) {
        double delta = 0;
        for (std::size_t r = 0; r < 4; ++r) {
          delta += static_cast<double>(b.value[i / inputs * 4 + r]) * static_cast<double>(a.value[r * inputs + i % inputs]);
        }
        w.value[i] += static_cast<float>(1.5 * delta);
      }
    }
  }
  const std::vector<Token> tokens = random_tokens(20, 96);
  EXPECT_LT(distance(logits_of_pass(adapted, tokens), logits_of_pass(merged, tokens)), 1e-5);
}

// QLoRA: forward is the serving path's with its rounded activations, backward that of the decoded matrices.
TEST(GradientPass, AdaptersOverQuantizedWeightsHaveTheGradientOfTheDecodedOnes) {
  ThreadPool pool(2);
  const auto quantized = random_checkpoint(tiny_config(), Format::kQ4_K, 3);
  const auto decoded = std::make_shared<Checkpoint>();
  decoded->config = quantized->config;
  const Parameters values(quantized, {}, Device{pool});  // decodes every matrix
  decoded->weights = values.weights();
  TrainChoice choice{.trained = Trained::kAdapters};
  choice.lora.rank = 4;
  Parameters of_quantized(quantized, choice, Device{pool}), of_decoded(decoded, choice, Device{pool});
  stir(of_quantized, 0.02);
  stir(of_decoded, 0.02);
  const Packed packed;
  const Result found = run(of_quantized, 2, Keep::kAllActivations, packed.rows());
  const Result expected = run(of_decoded, 2, Keep::kAllActivations, packed.rows());
  const Agreement agreement = compare(found.gradients, std::vector<double>(expected.gradients.begin(), expected.gradients.end()));
  EXPECT_GT(agreement.cosine, 0.999);
  EXPECT_LT(agreement.relative, 0.05);
  EXPECT_GT(agreement.relative, has_integer_dots() ? 1e-4 : 0.0) << "activations are rounded in one of them";
}

TEST(GradientPass, RoundedCopiesComputeAsABf16Checkpoint) {
  ThreadPool pool(2);
  const auto exact = tiny_checkpoint(tiny_config(), Format::kF32), rounded = tiny_checkpoint(tiny_config(), Format::kBF16);
  Parameters trained(exact, {.compute = Format::kBF16}, Device{pool});
  Parameters frozen(rounded, {.trained = Trained::kNothing}, Device{pool});
  const std::vector<Token> tokens = random_tokens(20, 96);
  EXPECT_EQ(logits_of_pass(trained, tokens), logits_of_pass(frozen, tokens));
  const Packed packed;
  const Result result = run(trained, 2, Keep::kAllActivations, packed.rows());
  EXPECT_TRUE(std::ranges::any_of(result.gradients, [](float value) { return value != 0; }));
}

// Per row and layer: x, queries to values, attention, its sums, x_middle, gate and up; shared: the rest.
TEST(GradientPass, ItsMemoryIsKnownBefore) {
  const ModelConfig config = tiny_config();  // L 2, D 256, H E 256, G E 64, F 512, E 32, H 8
  const auto bytes = [&](Keep keep, std::int64_t rank = 0) { return GradientPass::bytes(config, 64, keep, rank); };
  EXPECT_EQ(bytes(Keep::kAllActivations) - bytes(Keep::kBlockInputs), 64 * 4 * (384 + 256 + 8 + 256 + 2 * 512));
  EXPECT_EQ(bytes(Keep::kBlockInputs) - bytes(Keep::kNothing), 64 * 4 * (2 * 256 + 2 * 512 + 256 + 256 + 384 + 2 * 256));
  EXPECT_EQ(bytes(Keep::kNothing, 16) - bytes(Keep::kNothing), 64 * 4 * (7 * 16 + 512));
}

TEST(GradientPass, SaysWhatItRefuses) {
  ThreadPool pool(1);
  Parameters parameters(tiny_checkpoint(small_config(), Format::kF32), {}, Device{pool});
  GradientPass pass(parameters, Device{pool}, 20, Keep::kNothing);
  Packed packed;
  const std::size_t count = pass.forward(packed.rows()).size();
  const std::vector<float> gradient(count);
  expect_error(ErrorKind::kInternal, "backward without a forward that kept its activations", [&] { pass.backward(gradient); });
  packed.tokens[3] = Token{24};
  expect_error(ErrorKind::kBadInput, "token 24 is outside the vocabulary: ids are 0 to 23", [&] { pass.forward(packed.rows()); });
  packed.tokens.resize(21);
  expect_error(ErrorKind::kInternal, "a batch of 21 rows, expected 1 to 20", [&] { pass.forward(packed.rows()); });
}

}  // namespace
}  // namespace puna
