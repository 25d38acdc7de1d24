// SPDX-License-Identifier: Apache-2.0
// A draw from a shortlist is the draw from the whole row, or none: over settings, seeds and rows that want to be taken for others.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/as_size.h"
#include "base/error.h"
#include "base/random.h"
#include "infer/generate.h"
#include "infer/sampler.h"
#include "model/tiny_checkpoint.h"

namespace puna {
namespace {

constexpr float kRowInfinity = std::numeric_limits<float>::infinity(), kRowNaN = std::numeric_limits<float>::quiet_NaN();
constexpr std::size_t kVocabulary = 3000;

Shortlist shortlist(const std::vector<float>& row, const RowDraw& draw) {
  ThreadPool pool(1);
  Device device{pool};
  Shortlist found;
  const auto width = static_cast<std::int64_t>(row.size());
  shortlist_rows(device, {row.data(), 1, width, width}, &draw, &found);
  return found;
}

std::vector<float> normal_row(double spread, std::uint64_t seed, std::size_t width = kVocabulary) {
  std::vector<float> row(width);
  for (std::size_t v = 0; v < width; ++v) row[v] = static_cast<float>(spread * random_normal(seed, 4, v));
  return row;
}

// Few likely tokens and a long tail, as a trained model says.
std::vector<float> peaked_row(std::uint64_t seed) {
  std::vector<float> row = normal_row(1, seed);
  for (std::uint64_t i = 0; i < 12; ++i)
    row[random_bits(seed, 5, i) % row.size()] += static_cast<float>(14 - 0.7 * static_cast<double>(i));
  return row;
}

std::map<std::string, std::vector<float>> adversarial_rows() {
  std::map<std::string, std::vector<float>> rows;
  rows["flat"] = std::vector<float>(kVocabulary, 1);
  rows["wide"] = normal_row(0.3, 1);
  rows["ties"] = normal_row(4, 2);
  for (float& logit : rows["ties"]) logit = std::round(logit);
  std::vector<float>& border = rows["ties at the border"] = std::vector<float>(kVocabulary, 0.5f);
  for (std::size_t i = 0; i < 250; ++i) border[(i * 7919) % kVocabulary] = 1 + static_cast<float>(i) / 100;
  std::vector<float>& holes = rows["holes"] = normal_row(4, 3);
  for (std::size_t v = 0; v < kVocabulary; v += 2) holes[v] = v % 4 == 0 ? kRowNaN : -kRowInfinity;
  rows["few"] = std::vector<float>(kVocabulary, -kRowInfinity);
  for (std::size_t v = 100; v < 150; ++v) rows["few"][v] = static_cast<float>(v % 7);
  rows["short"] = normal_row(2, 4, 200);
  rows["exactly full"] = normal_row(2, 5, kShortlist);
  rows["rising"] = normal_row(3, 6);
  std::ranges::sort(rows["rising"]);
  rows["huge"] = normal_row(1e30, 7);
  rows["tiny"] = normal_row(1e-41, 8);
  std::vector<float>& close = rows["too close for F32 beside the largest"] = normal_row(1e-6, 9);
  close[77] = 20;
  // Tokens 77 and 150 are in every prompt, and 77 is what biases lower.
  std::vector<float>& penalised = rows["others that are penalised"] = std::vector<float>(kShortlist + 2);
  for (std::size_t v = 0; v < penalised.size(); ++v) penalised[v] = -20 - static_cast<float>(v) / 10000;
  penalised[77] = penalised[150] = -20.1f;
  std::vector<float>& raised = rows["one that a penalty raises"] = std::vector<float>(kVocabulary, 0);
  for (std::size_t v = 0; v < 300; ++v) raised[1000 + v] = 2 + static_cast<float>(v) / 1000;
  raised[77] = 1.9f;
  rows["others that vanish beside one that a bias takes away"] = normal_row(0.3, 10);
  rows["others that vanish beside one that a bias takes away"][77] = 100;
  rows["exact halves"] = std::vector<float>(kVocabulary, -200);
  for (std::size_t i = 0; i < 12; ++i) rows["exact halves"][i * 31] = static_cast<float>(-static_cast<double>(i) * std::log(2.0));
  return rows;
}

using Options = std::vector<std::pair<std::string, SamplerOptions>>;

SamplerOptions only_temperature() {
  SamplerOptions options;
  options.temperature = options.top_p = 1;
  return options;
}

Options settings() {
  const SamplerOptions plain = only_temperature();
  Options all{{"default", {}}, {"temperature alone", plain}};
  const auto add = [&](const std::string& name, auto&& change) {
    all.emplace_back(name, plain);
    change(all.back().second);
  };
  add("greedy", [](SamplerOptions& o) { o.temperature = 0; });
  add("cold", [](SamplerOptions& o) { o.temperature = 0.05; });
  add("icy", [](SamplerOptions& o) { o.temperature = 1e-30; });
  add("hot", [](SamplerOptions& o) { o.temperature = 5, o.top_p = 0.95; });
  for (const int k : {1, 40, 250, 255, 256, 257, 1000}) add("top-k " + std::to_string(k), [&](SamplerOptions& o) { o.top_k = k; });
  for (const double p : {0.0, 0.5, 0.75, 0.9, 0.999, 0.9999999}) {
    add("top-p " + std::to_string(p), [&](SamplerOptions& o) { o.top_p = p; });
  }
  for (const double p : {0.05, 1e-3, 1e-9, 1.0}) add("min-p " + std::to_string(p), [&](SamplerOptions& o) { o.min_p = p; });
  add("top-k and top-p", [](SamplerOptions& o) { o.top_k = 50, o.top_p = 0.9; });
  add("top-p and min-p", [](SamplerOptions& o) { o.top_p = 0.95, o.min_p = 0.02; });
  add("typical", [](SamplerOptions& o) { o.typical_p = 0.8; });
  add("typical behind top-k", [](SamplerOptions& o) { o.top_k = 60, o.typical_p = 0.8, o.top_p = 0.9; });
  add("repetition", [](SamplerOptions& o) { o.top_p = 0.9, o.repetition_penalty = 1.3; });
  add("repetition and top-k", [](SamplerOptions& o) { o.top_k = 40, o.repetition_penalty = 1.3; });
  add("repetition wanted", [](SamplerOptions& o) { o.top_p = 0.9, o.repetition_penalty = 0.8; });
  add("repetition wanted, greedy", [](SamplerOptions& o) { o.temperature = 0, o.repetition_penalty = 0.8; });
  add("presence, greedy", [](SamplerOptions& o) { o.temperature = 0, o.presence_penalty = 1, o.frequency_penalty = 0.5; });
  add("presence", [](SamplerOptions& o) { o.top_p = 0.8, o.presence_penalty = 1.5, o.frequency_penalty = 1; });
  add("presence wanted", [](SamplerOptions& o) { o.top_p = 0.8, o.frequency_penalty = -1; });
  add("bias down", [](SamplerOptions& o) { o.top_p = 0.9, o.logit_bias = {{Token{77}, -100}, {Token{5}, -3}, {Token{199}, -1}}; });
  add("bias up", [](SamplerOptions& o) { o.top_p = 0.9, o.logit_bias = {{Token{9}, 6}}; });
  add("bias and temperature alone", [](SamplerOptions& o) { o.logit_bias = {{Token{77}, -100}}; });
  return all;
}

struct Counts {
  int decided = 0, asked = 0;
  double share() const { return static_cast<double>(decided) / asked; }
};

// Samples as long as the whole row can be sampled, with two samplers in step: one sees the row alone, the other asks the list
// first. The device may err by as much as it says, by `error` of that.
Counts expect_the_same(const std::vector<float>& row, SamplerOptions options, std::span<const std::uint32_t> mask = {},
                       double error = 0, int seeds = 12) {
  Counts counts;
  for (int seed = 0; seed < seeds; ++seed) {
    options.seed = static_cast<std::uint64_t>(seed);
    Sampler whole(options), listed(options);
    const std::vector<Token> prompt{Token{3}, Token{77}, Token{150}, Token{3}};
    whole.accept_prompt(prompt), listed.accept_prompt(prompt);
    for (int step = 0; step < 4; ++step) {
      Shortlist list = shortlist(row, listed.next_draw());
      list.rest *= 1 + error * kRestError;
      Token want{-1};
      try {
        want = whole.sample(row, -1, mask).token;
      } catch (const Error&) {
        EXPECT_FALSE(listed.sample(list, mask));
        return counts;
      }
      ++counts.asked;
      if (const auto token = listed.sample(list, mask)) {
        ++counts.decided;
        EXPECT_EQ(token->token, want) << "seed " << seed << " step " << step;
      } else {
        EXPECT_EQ(listed.sample(row, -1, mask).token, want) << "seed " << seed << " step " << step;
      }
    }
  }
  return counts;
}

TEST(ShortlistDraws, AreThoseOfAdversarialRows) {
  for (const auto& [name, row] : adversarial_rows()) {
    for (const auto& [setting, options] : settings()) {
      for (const double error : {-1.0, 0.0, 1.0}) {
        SCOPED_TRACE(name + ", " + setting);
        expect_the_same(row, options, {}, error, 3);
      }
    }
  }
}

TEST(ShortlistDraws, AreThoseOfLikelyRowsAndSeldomUndecided) {
  const std::set<std::string> never{"top-k 256", "top-k 257", "top-k 1000", "typical", "bias and temperature alone"};
  const std::set<std::string> seldom{"bias up",
                                     "hot",
                                     "top-p 0.999000",
                                     "top-p 1.000000",
                                     "min-p 0.000000",
                                     "repetition wanted",
                                     "repetition wanted, greedy",
                                     "presence wanted"};
  for (const auto& [setting, options] : settings()) {
    SCOPED_TRACE(setting);
    Counts counts;
    for (std::uint64_t seed = 1; seed <= 8; ++seed) {
      const Counts some = expect_the_same(peaked_row(seed), options);
      counts.decided += some.decided, counts.asked += some.asked;
    }
    if (never.contains(setting)) {
      EXPECT_EQ(counts.decided, 0);
    } else if (!seldom.contains(setting)) {
      EXPECT_GE(counts.share(), 0.95);
    }
  }
}

TEST(ShortlistDraws, UnderMasks) {
  const std::size_t words = (kVocabulary + 31) / 32;
  std::vector<std::uint32_t> all(words, ~0u), third(words, 0x49249249u), few(words, 0), none(words, 0);
  few[3] = 0xffu, few[60] = 0x3u;
  for (const auto& [setting, options] : settings()) {
    SCOPED_TRACE(setting);
    for (const std::vector<std::uint32_t>& mask : {all, third, few, none}) {
      for (std::uint64_t seed = 1; seed <= 3; ++seed) expect_the_same(peaked_row(seed), options, mask, 0, 4);
      for (const auto& [name, row] : adversarial_rows()) expect_the_same(row, options, mask, 0, 1);
    }
  }
  SamplerOptions options;
  EXPECT_GE(expect_the_same(peaked_row(1), options, all).share(), 0.9);
}

TEST(ShortlistDraws, LeaveErrorsToTheRow) {
  SamplerOptions options;
  const RowDraw draw = Sampler(options).next_draw();
  std::vector<float> row = normal_row(1, 1);
  row[9] = kRowInfinity;
  EXPECT_FALSE(Sampler(options).sample(shortlist(row, draw)));
  EXPECT_FALSE(Sampler(options).sample(shortlist(std::vector<float>(500, kRowNaN), draw)));
  EXPECT_FALSE(Sampler(only_temperature()).sample(shortlist(row, {0.5, 1})));
  options.logit_bias = {{Token{3000}, -1}};
  Sampler outside(options);
  EXPECT_THROW(outside.sample(shortlist(normal_row(1, 1), draw)), Error);
}

// The whole road: what a session writes is what a sampler draws from the logits themselves, on one rank, on two and in two stages.
TEST(ShortlistDraws, AnswersAreThoseOfTheLogits) {
  ModelConfig config = tiny_config();
  config.vocabulary = 1200;
  const auto checkpoint = tiny_checkpoint(config, Format::kF32);
  const std::vector<Token> prompt{Token{5},    Token{900}, Token{31}, Token{77}, Token{500},
                                  Token{1100}, Token{2},   Token{8},  Token{40}};
  for (const DeviceChoice& devices : {DeviceChoice{}, DeviceChoice{.cpu_ranks = 2}, DeviceChoice{.cpu_ranks = 2, .stages = 2}}) {
    EngineOptions engine_options;
    engine_options.threads = 2;
    engine_options.kv_format = Format::kF32;
    engine_options.context = 128;
    engine_options.devices = devices;
    Engine engine(checkpoint, engine_options), logits_engine(checkpoint, engine_options);
    engine.model().make_shortlists();
    for (const auto& [setting, sampler_options] : settings()) {
      SCOPED_TRACE(setting);
      if (!sampler_options.logit_bias.empty() || sampler_options.temperature > 1) continue;
      GenerateOptions options;
      options.sampler = sampler_options;
      options.sampler.seed = 11;
      options.max_tokens = 5;
      Session session(engine);
      const std::vector<Token> tokens = session.generate(prompt, options).tokens;
      Sampler sampler(options.sampler);
      sampler.accept_prompt(prompt);
      const int sequence = logits_engine.cache().add_sequence();
      std::vector<Token> next = prompt, want;
      while (want.size() < tokens.size()) {
        want.push_back(sampler.sample(logits_engine.append(sequence, next)).token);
        next = {want.back()};
      }
      logits_engine.cache().remove_sequence(sequence);
      EXPECT_EQ(tokens, want);
      EXPECT_EQ(tokens.size(), 5u);
    }
  }
}

}  // namespace
}  // namespace puna
