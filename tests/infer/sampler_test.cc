// SPDX-License-Identifier: Apache-2.0
// The sampler against a plain reference in double precision that sorts everything, and against cases worked out by hand.
#include "infer/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <string>

#include "base/error.h"
#include "base/random.h"
#include "count_allocations.h"

namespace puna {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> logs(std::vector<double> probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
  return logits;
}

std::vector<float> random_logits(std::size_t count, double spread, std::uint64_t seed) {
  std::vector<float> logits(count);
  for (std::size_t v = 0; v < count; ++v) logits[v] = static_cast<float>(spread * random_normal(seed, 1, v));
  return logits;
}

// Every option off: each test turns on what it is about.
SamplerOptions plain() {
  SamplerOptions options;
  options.temperature = 1;
  options.top_p = 1;
  return options;
}

// Which tokens are drawn in `draws` runs with different seeds, and how often.
std::map<int, int> drawn(std::span<const float> logits, SamplerOptions options, int draws = 300, std::vector<Token> prompt = {}) {
  std::map<int, int> counts;
  for (int seed = 0; seed < draws; ++seed) {
    options.seed = static_cast<std::uint64_t>(seed);
    Sampler sampler(options);
    sampler.accept_prompt(prompt);
    ++counts[id(sampler.sample(logits).token)];
  }
  return counts;
}

std::vector<int> tokens_drawn(std::span<const float> logits, const SamplerOptions& options) {
  std::vector<int> tokens;
  for (const auto& [token, count] : drawn(logits, options)) tokens.push_back(token);
  return tokens;
}

std::string message_of(const SamplerOptions& options) {
  try {
    check_sampler_options(options);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    return error.what();
  }
  return "no error";
}

// Keeps the shortest beginning of `order` whose probability reaches `mass`, then renormalises.
void keep_beginning(std::vector<double>& p, const std::vector<std::size_t>& order, double mass) {
  std::vector<double> kept(p.size());
  double sum = 0;
  for (const std::size_t v : order) {
    if (p[v] == 0 || sum >= mass) continue;
    kept[v] = p[v];
    sum += p[v];
  }
  if (sum == 0) kept[order.front()] = sum = 1;
  for (std::size_t v = 0; v < p.size(); ++v) p[v] = kept[v] / sum;
}

std::vector<std::size_t> order_by(const std::vector<double>& key) {
  std::vector<std::size_t> order(key.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return key[a] < key[b]; });
  return order;
}

std::vector<double> negated(const std::vector<double>& values) {
  std::vector<double> result;
  for (const double value : values) result.push_back(-value);
  return result;
}

// The definition in sampler.h, written down without regard for speed.
std::vector<double> reference(std::span<const float> logits, const SamplerOptions& options, const std::vector<Token>& prompt) {
  std::vector<double> l(logits.begin(), logits.end());
  for (const auto& [token, bias] : options.logit_bias) l[static_cast<std::size_t>(id(token))] += bias;
  const std::size_t window =
      options.penalty_window < 0 ? prompt.size() : std::min<std::size_t>(prompt.size(), options.penalty_window);
  for (std::size_t v = 0; v < l.size(); ++v) {
    if (std::count(prompt.end() - static_cast<std::ptrdiff_t>(window), prompt.end(), Token{static_cast<std::int32_t>(v)}) == 0)
      continue;
    l[v] = l[v] > 0 ? l[v] / options.repetition_penalty : l[v] * options.repetition_penalty;
  }
  std::vector<double> p;
  const double largest = *std::max_element(l.begin(), l.end());
  for (const double value : l) p.push_back(std::exp((value - largest) / options.temperature));
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& value : p) value /= sum;

  if (options.top_k > 0) {
    const std::vector<std::size_t> order = order_by(negated(p));
    double kept = 0;
    for (std::size_t i = 0; i < order.size(); ++i)
      i < static_cast<std::size_t>(options.top_k) ? kept += p[order[i]] : p[order[i]] = 0;
    for (double& value : p) value /= kept;
  }
  if (options.typical_p < 1) {
    double entropy = 0;
    for (const double value : p) entropy -= value > 0 ? value * std::log(value) : 0;
    std::vector<double> distance;
    for (const double value : p) distance.push_back(value > 0 ? std::fabs(-std::log(value) - entropy) : kInfinity);
    keep_beginning(p, order_by(distance), options.typical_p);
  }
  if (options.top_p < 1) keep_beginning(p, order_by(negated(p)), options.top_p);
  const double floor = options.min_p * *std::max_element(p.begin(), p.end());
  double kept = 0;
  for (double& value : p) kept += value = value >= floor ? value : 0;
  for (double& value : p) value /= kept;
  return p;
}

// Pearson's statistic of 20,000 draws against the reference; five standard deviations above its mean are allowed.
void expect_distribution(std::span<const float> logits, const SamplerOptions& options, const std::vector<Token>& prompt = {}) {
  constexpr int kDraws = 20000;
  const std::vector<double> expected = reference(logits, options, prompt);
  const std::map<int, int> counts = drawn(logits, options, kDraws, prompt);
  double statistic = 0, rest_expected = 0, rest_seen = 0;
  int cells = 0;
  for (std::size_t v = 0; v < expected.size(); ++v) {
    const auto found = counts.find(static_cast<int>(v));
    const double seen = found == counts.end() ? 0 : found->second, mean = expected[v] * kDraws;
    if (expected[v] == 0) {
      EXPECT_EQ(seen, 0) << "token " << v << " was filtered out and still drawn";
    } else if (mean < 10) {
      rest_expected += mean, rest_seen += seen;
    } else {
      statistic += (seen - mean) * (seen - mean) / mean, ++cells;
    }
  }
  if (rest_expected >= 10) statistic += (rest_seen - rest_expected) * (rest_seen - rest_expected) / rest_expected, ++cells;
  EXPECT_LT(statistic, cells + 5 * std::sqrt(2.0 * cells) + 5);
}

TEST(Sampler, DrawsFromTheWholeDistribution) { expect_distribution(random_logits(50, 1.5, 1), plain()); }

TEST(Sampler, DrawsWithTemperature) {
  SamplerOptions options = plain();
  options.temperature = 0.6;
  expect_distribution(random_logits(50, 1.5, 2), options);
  options.temperature = 2.5;
  expect_distribution(random_logits(50, 1.5, 3), options);
}

TEST(Sampler, DrawsWithEachFilter) {
  const std::vector<float> logits = random_logits(80, 2, 4);
  SamplerOptions options = plain();
  options.top_k = 7;
  expect_distribution(logits, options);
  options = plain();
  options.top_p = 0.8;
  expect_distribution(logits, options);
  options = plain();
  options.min_p = 0.1;
  expect_distribution(logits, options);
  options = plain();
  options.typical_p = 0.5;
  expect_distribution(logits, options);
}

TEST(Sampler, DrawsWithEverythingAtOnce) {
  SamplerOptions options;
  options.temperature = 0.9;
  options.top_k = 30;
  options.typical_p = 0.95;
  options.top_p = 0.9;
  options.min_p = 0.02;
  options.repetition_penalty = 1.3;
  options.penalty_window = 3;
  options.logit_bias = {{Token{5}, 2.0}, {Token{6}, -100.0}};
  expect_distribution(random_logits(80, 2, 5), options, {Token{1}, Token{9}, Token{10}, Token{11}, Token{9}});
}

TEST(Sampler, FiltersAgreeWithTheReferenceFarBelowTheLargestLogit) {  // the band in which candidates are looked for has to grow
  std::vector<float> logits = random_logits(3000, 0.1, 6);
  logits[17] = 9;  // e^9 = 8103: about as much as all others together
  SamplerOptions options = plain();
  options.top_p = 0.95;
  const std::vector<double> expected = reference(logits, options, {});
  for (const auto& [token, count] : drawn(logits, options, 3000)) EXPECT_GT(expected[static_cast<std::size_t>(token)], 0) << token;
  options.top_k = 2999;
  EXPECT_GT(drawn(logits, options, 3000).size(), 500u);
}

TEST(Sampler, TopKKeepsTheLowerIdOfEquals) {
  SamplerOptions options = plain();
  options.top_k = 2;
  EXPECT_THAT(tokens_drawn(std::vector<float>{1, 2, 1, 1, 1}, options), ElementsAre(0, 1));
  options.top_k = 1;
  EXPECT_THAT(tokens_drawn(std::vector<float>{1, 1, 1}, options), ElementsAre(0));
  options.top_k = 50;
  EXPECT_THAT(tokens_drawn(std::vector<float>{1, 1, 1}, options), ElementsAre(0, 1, 2));
}

TEST(Sampler, TopPKeepsTheShortestBeginningThatReachesIt) {
  const std::vector<float> logits = logs({0.2, 0.5, 0.3});
  SamplerOptions options = plain();
  options.top_p = 0.49;
  EXPECT_THAT(tokens_drawn(logits, options), ElementsAre(1));
  options.top_p = 0.51;
  EXPECT_THAT(tokens_drawn(logits, options), ElementsAre(1, 2));
  options.top_p = 0.79;
  EXPECT_THAT(tokens_drawn(logits, options), ElementsAre(1, 2));
  options.top_p = 0.81;
  EXPECT_THAT(tokens_drawn(logits, options), ElementsAre(0, 1, 2));
  options.top_p = 0;
  EXPECT_THAT(tokens_drawn(logits, options), ElementsAre(1));
}

TEST(Sampler, TopPCountsWhatTopKLeft) {
  const std::vector<float> logits = logs({0.4, 0.3, 0.2, 0.1});
  SamplerOptions options = plain();
  options.top_k = 2;    // 4/7, 3/7
  options.top_p = 0.5;  // of the whole it would take two tokens
  EXPECT_THAT(tokens_drawn(logits, options), ElementsAre(0));
}

TEST(Sampler, MinPComparesWithTheLargest) {
  const std::vector<float> logits = logs({0.6, 0.25, 0.1, 0.05});
  SamplerOptions options = plain();
  options.min_p = 0.2;  // 0.12
  EXPECT_THAT(tokens_drawn(logits, options), ElementsAre(0, 1));
  options.min_p = 0.16;  // 0.096
  EXPECT_THAT(tokens_drawn(logits, options), ElementsAre(0, 1, 2));
  options.min_p = 1;
  EXPECT_THAT(tokens_drawn(logits, options), ElementsAre(0));
}

TEST(Sampler, TypicalMayLeaveOutTheMostLikely) {
  // entropy 0.898; distances of the surprise from it: 0.387, 0.306, 1.405
  const std::vector<float> logits = logs({0.6, 0.3, 0.1});
  SamplerOptions options = plain();
  options.typical_p = 0.25;
  EXPECT_THAT(tokens_drawn(logits, options), ElementsAre(1));
  options.typical_p = 0.85;
  EXPECT_THAT(tokens_drawn(logits, options), ElementsAre(0, 1));
  options.typical_p = 0.95;
  EXPECT_THAT(tokens_drawn(logits, options), ElementsAre(0, 1, 2));
}

TEST(Sampler, GreedyTakesTheLowestIdOfTheLargest) {
  SamplerOptions options;
  options.temperature = 0;
  Sampler sampler(options);
  EXPECT_EQ(sampler.sample(std::vector<float>{1, 3, 3, 2}).token, Token{1});
  EXPECT_EQ(sampler.sample(std::vector<float>{-7, -3, -3.5f}).token, Token{1});
}

TEST(Sampler, TinyTemperaturesAreGreedy) {
  SamplerOptions options = plain();
  for (const double temperature : {1e-3, 1e-30, 1e-300}) {
    options.temperature = temperature;
    EXPECT_THAT(tokens_drawn(std::vector<float>{1, 3, 2.9f}, options), ElementsAre(1)) << temperature;
  }
}

TEST(Sampler, RepetitionPenaltyActsOnceOnEachTokenOfTheWindow) {
  SamplerOptions options;
  options.temperature = 0;
  options.repetition_penalty = 2;
  const std::vector<Token> prompt{Token{0}, Token{1}, Token{1}, Token{1}};
  const auto next = [&](std::vector<float> logits, int window) {
    options.penalty_window = window;
    Sampler sampler(options);
    sampler.accept_prompt(prompt);
    return id(sampler.sample(logits).token);
  };
  EXPECT_EQ(next({4, 3.1f, 2}, -1), 0);     // 2, 1.55, 2: the lower id of two equals; a penalty per occurrence would not change it
  EXPECT_EQ(next({4, 4.2f, 1.9f}, 64), 1);  // 2, 2.1, 1.9; with one penalty per occurrence token 1 would be 0.525
  EXPECT_EQ(next({4, 4.2f, 1.9f}, 1), 0);   // 4, 2.1, 1.9: the window does not reach token 0
  EXPECT_EQ(next({4, 4.2f, 1.9f}, 0), 1);   // no window, no penalty
  EXPECT_EQ(next({-1, -1, -1.9f}, 64), 2);  // negative logits are multiplied: -2, -2, -1.9
}

TEST(Sampler, RepetitionWindowSlidesOverGeneratedTokens) {
  SamplerOptions options;
  options.temperature = 0;
  options.repetition_penalty = 10;
  options.penalty_window = 2;
  Sampler sampler(options);
  std::vector<int> tokens;
  for (int i = 0; i < 6; ++i) tokens.push_back(id(sampler.sample(std::vector<float>{5, 4, 3}).token));
  EXPECT_THAT(tokens, ElementsAre(0, 1, 2, 0, 1, 2));
}

TEST(Sampler, PresenceAndFrequencyCountGeneratedTokensOnly) {
  SamplerOptions options;
  options.temperature = 0;
  options.presence_penalty = 1;
  options.frequency_penalty = 0.25;
  options.penalty_window = 0;  // the window is the repetition penalty's
  Sampler sampler(options);
  sampler.accept_prompt(std::vector<Token>(20, Token{0}));
  const std::vector<float> logits{3, 2, 0};
  std::vector<int> tokens;
  for (int i = 0; i < 8; ++i) tokens.push_back(id(sampler.sample(logits).token));
  // token 0: 3, 1.75, 1.5, 1.25, 1, 0.75 (a tie with token 1, and the lower id), 0.5; token 1: 2, 0.75
  EXPECT_THAT(tokens, ElementsAre(0, 1, 0, 0, 0, 0, 0, 1));
}

// Ids that the model has rows for and the tokenizer no names: a prompt may hold them, an answer cannot.
TEST(Sampler, PenaltiesPassOverWhatIsNeverDrawn) {
  SamplerOptions options;
  options.temperature = 0;
  options.repetition_penalty = 2;
  options.presence_penalty = 1;
  Sampler sampler(options);
  sampler.accept_prompt(std::vector<Token>{Token{0}, Token{7}});
  EXPECT_EQ(sampler.sample(std::vector<float>{4, 3, 1}).token, Token{1});
}

TEST(Sampler, BiasMovesLogits) {
  SamplerOptions options;
  options.temperature = 0;
  options.logit_bias = {{Token{2}, 5}, {Token{0}, -100}};
  Sampler sampler(options);
  EXPECT_EQ(sampler.sample(std::vector<float>{50, 1, 0}).token, Token{2});
  options.logit_bias = {{Token{3}, 5}};
  Sampler outside(options);
  try {
    outside.sample(std::vector<float>{1, 2, 3});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    EXPECT_STREQ(error.what(), "[logit_bias] token 3 is outside the vocabulary: ids are below 3");
  }
}

TEST(Sampler, TheSameSeedGivesTheSameTokens) {
  const std::vector<float> logits = random_logits(200, 1, 9);
  SamplerOptions options;
  options.temperature = 1;
  options.seed = 42;
  const auto run = [&] {
    Sampler sampler(options);
    std::vector<Token> tokens;
    for (int i = 0; i < 50; ++i) tokens.push_back(sampler.sample(logits).token);
    return tokens;
  };
  const std::vector<Token> first = run();
  EXPECT_EQ(first, run());
  EXPECT_GT(std::count_if(first.begin(), first.end(), [&](Token token) { return token != first[0]; }), 10);  // steps differ
  options.seed = 43;
  EXPECT_NE(first, run());
}

TEST(Sampler, StepsAfterTheFirstAllocateNothing) {
  const std::vector<float> logits = random_logits(2000, 2, 10);
  SamplerOptions options;
  for (const double temperature : {0.0, 0.6}) {
    options.temperature = temperature;
    Sampler sampler(options);
    if (temperature > 0) sampler.sample(logits);
    const std::int64_t before = allocations;
    for (int i = 0; i < 20; ++i) sampler.sample(logits);
    EXPECT_EQ(allocations - before, 0) << temperature;
  }
}

TEST(Sampler, LogprobsAreOfTheModelsOwnDistribution) {
  const std::vector<float> logits = logs({0.1, 0.2, 0.4, 0.2, 0.1});
  SamplerOptions options;
  options.temperature = 0;
  options.logit_bias = {{Token{4}, 100}};
  Sampler sampler(options);
  const SampledToken sampled = sampler.sample(logits, 3);
  EXPECT_EQ(sampled.token, Token{4});
  EXPECT_NEAR(sampled.logprob, std::log(0.1), 1e-6);
  ASSERT_EQ(sampled.top.size(), 3u);
  const std::vector<std::pair<int, double>> expected{{2, 0.4}, {1, 0.2}, {3, 0.2}};
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(id(sampled.top[i].first), expected[i].first);
    EXPECT_NEAR(sampled.top[i].second, std::log(expected[i].second), 1e-6);
  }
  EXPECT_EQ(sampler.sample(logits, 100).top.size(), 5u);
  EXPECT_NEAR(sampler.sample(logits, 0).logprob, std::log(0.1), 1e-6);
  EXPECT_EQ(sampler.sample(logits).logprob, 0);  // not asked for
}

TEST(Sampler, NaNAndForbiddenLogitsAreNeverDrawn) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> logits{nan, 1, -kInfinity, 1, nan};
  for (const double top_p : {0.9, 1.0}) {
    SamplerOptions options = plain();
    options.top_p = top_p == 1.0 ? 1 : 0.999;
    EXPECT_THAT(tokens_drawn(logits, options), ElementsAre(1, 3));
  }
  SamplerOptions greedy;
  greedy.temperature = 0;
  EXPECT_EQ(Sampler(greedy).sample(logits).token, Token{1});
}

TEST(Sampler, DrawsOnlyWhatTheMaskAllows) {
  const std::vector<float> logits = random_logits(70, 2, 9);
  const std::vector<std::uint32_t> mask = {0x80000104u, 0x00000001u, 0x00000020u};
  const std::vector<int> allowed = {2, 8, 31, 32, 69};
  for (int filter = 0; filter < 6; ++filter) {
    SamplerOptions options = plain();
    if (filter == 1) options.top_k = 3;
    if (filter == 2) options.top_p = 0.8;
    if (filter == 3) options.min_p = 0.3;
    if (filter == 4) options.typical_p = 0.7;
    if (filter == 5) options.presence_penalty = 1, options.repetition_penalty = 1.3, options.logit_bias = {{Token{0}, 100}};
    std::vector<float> rest(logits.size(), -kInfinity);
    for (const int token : allowed) rest[static_cast<std::size_t>(token)] = logits[static_cast<std::size_t>(token)];
    for (std::uint64_t seed = 0; seed < 100; ++seed) {  // as if the others had no logit
      options.seed = seed;
      Sampler masked(options), plain_one(options);
      for (int step = 0; step < 3; ++step) ASSERT_EQ(masked.sample(logits, -1, mask).token, plain_one.sample(rest).token) << filter;
    }
  }
  SamplerOptions largest = plain();
  largest.temperature = 0;
  Sampler greedy(largest);
  const SampledToken sampled = greedy.sample(logits, 70, mask);
  const auto best = std::ranges::max_element(allowed, {}, [&](int token) { return logits[static_cast<std::size_t>(token)]; });
  EXPECT_EQ(id(sampled.token), *best);
  double sum = 0;
  for (const auto& [token, logprob] : sampled.top) sum += std::exp(logprob);
  EXPECT_NEAR(sum, 1, 1e-6);  // the model's own distribution, whatever is allowed
  const std::vector<std::uint32_t> none(3, 0), all(3, ~0u), small(2, ~0u);
  EXPECT_EQ(greedy.sample(logits, -1, all).token, greedy.sample(logits).token);
  EXPECT_THROW(greedy.sample(logits, -1, none), Error);
  EXPECT_THROW(greedy.sample(logits, -1, small), Error);
}

TEST(Sampler, RefusesLogitsWithoutAFiniteMaximum) {
  Sampler sampler(plain());
  try {
    sampler.sample(std::vector<float>{-kInfinity, std::numeric_limits<float>::quiet_NaN()});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
    EXPECT_STREQ(error.what(), "[sampler] the largest of 2 logits is -inf, expected a finite number: the weights are damaged");
  }
}

TEST(SamplerOptions, NamesTheOptionOutsideItsRange) {
  EXPECT_EQ(message_of(SamplerOptions{}), "no error");
  SamplerOptions options;
  options.temperature = -1;
  EXPECT_EQ(message_of(options), "[temperature] -1 is outside the range: give a number from 0 to 100");
  options = {};
  options.top_p = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(message_of(options), HasSubstr("[top_p] nan is outside the range"));
  options = {};
  options.top_k = -3;
  EXPECT_THAT(message_of(options), HasSubstr("[top_k] -3"));
  options = {};
  options.min_p = 1.5;
  EXPECT_THAT(message_of(options), HasSubstr("[min_p] 1.5"));
  options = {};
  options.typical_p = -0.1;
  EXPECT_THAT(message_of(options), HasSubstr("[typical_p]"));
  options = {};
  options.repetition_penalty = 0;
  EXPECT_THAT(message_of(options), HasSubstr("[repetition_penalty]"));
  options = {};
  options.presence_penalty = 3;
  EXPECT_THAT(message_of(options), HasSubstr("[presence_penalty]"));
  options = {};
  options.frequency_penalty = -3;
  EXPECT_THAT(message_of(options), HasSubstr("[frequency_penalty]"));
  options = {};
  options.penalty_window = -2;
  EXPECT_THAT(message_of(options), HasSubstr("[penalty_window]"));
  options = {};
  options.logit_bias = {{Token{1}, 101}};
  EXPECT_EQ(message_of(options), "[logit_bias] 101 is outside the range: give a number from -100 to 100");
  options.logit_bias = {{Token{-1}, 1}};
  EXPECT_EQ(message_of(options), "[logit_bias] token -1 is not a token: ids start at 0");
}

}  // namespace
}  // namespace puna
