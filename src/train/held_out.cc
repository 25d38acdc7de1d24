// SPDX-License-Identifier: Apache-2.0
#include "train/held_out.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/random.h"

namespace puna {
namespace {

constexpr int kDepths = 10;
constexpr std::int64_t kKey = kNeedle / 2;

// Held-out tokens, one document behind the other, again from the beginning where the data ends or had ended.
std::vector<Token> haystack(Loader& loader, std::int64_t length) {
  std::vector<Token> tokens;
  const std::string start = loader.state();
  bool rewound = false;
  while (static_cast<std::int64_t>(tokens.size()) < length) {
    const std::optional<Example> example = loader.next_example();
    if (example) {
      tokens.insert(tokens.end(), example->tokens.begin(), example->tokens.end());
      continue;
    }
    if (rewound && tokens.empty()) fail(ErrorKind::kBadInput, "validation", "has no text to hide a needle in");
    loader.rewind();
    rewound = true;
  }
  loader.restore(start);
  tokens.resize(static_cast<std::size_t>(length));
  return tokens;
}

}  // namespace

HeldOut measure_held_out(Loader& loader, TrainRanks& ranks, std::int64_t tokens, const PrepareBatches& prepare) {
  const std::string start = loader.state();
  HeldOut result;
  double weight_sum = 0;
  LossReport sum;
  for (std::int64_t rows = 0; rows < tokens;) {
    StepBatches step = loader.next(tokens - rows);
    if (step.batches.empty()) break;
    prepare(step);
    LossReport report;
    for (const PackedBatch& batch : step.batches) {
      rows += static_cast<std::int64_t>(batch.tokens.size());
      report += ranks.evaluate(batch, step);
    }
    // Each step's report is its own mean.
    const double weight = step.groups > 0 ? static_cast<double>(step.groups) : step.trained_tokens;
    weight_sum += weight;
    sum.tokens += report.tokens;
    sum.loss += report.loss * weight;
    for (const LossReport::Figure& figure : report.figures()) sum.add(figure.name, figure.value * weight);
  }
  loader.restore(start);
  if (weight_sum == 0) fail(ErrorKind::kBadInput, "validation", "holds nothing to measure");
  result.loss = sum.loss / weight_sum;
  result.tokens = sum.tokens;
  for (const LossReport::Figure& figure : sum.figures()) result.figures.emplace_back(figure.name, figure.value / weight_sum);
  return result;
}

double find_needles(Loader& loader, TrainRanks& ranks, std::int64_t length, std::uint64_t seed) {
  constexpr std::int64_t kQuestion = kKey + (kNeedle - kKey) - 1;  // the key again, and the answer but for its last token
  PUNA_CHECK(length >= kShortestHaystack, "needle", "rows of {} tokens, expected {} or more", length, kShortestHaystack);
  const std::vector<Token> hay = haystack(loader, length - kNeedle - kQuestion);
  const auto vocabulary = static_cast<std::uint64_t>(ranks.vocabulary());
  PackedBatch batch;
  batch.positions.resize(static_cast<std::size_t>(length));
  std::iota(batch.positions.begin(), batch.positions.end(), 0);
  batch.segments = {{.first_row = 0, .rows = length}};
  std::vector<std::int32_t> rows(kNeedle - kKey), targets(kNeedle - kKey);
  std::iota(rows.begin(), rows.end(), static_cast<std::int32_t>(length - (kNeedle - kKey)));
  int found = 0;
  for (int depth = 0; depth < kDepths; ++depth) {
    std::vector<Token> needle;
    for (std::uint64_t i = 0; i < kNeedle; ++i)
      needle.push_back(Token(static_cast<std::int32_t>(random_bits(seed, static_cast<std::uint64_t>(depth), i) % vocabulary)));
    // The first token, a document's beginning, stays in front.
    const std::ptrdiff_t place = 1 + depth * (std::ssize(hay) - 1) / (kDepths - 1);
    batch.tokens = hay;
    batch.tokens.insert(batch.tokens.begin() + place, needle.begin(), needle.end());
    batch.tokens.insert(batch.tokens.end(), needle.begin(), needle.begin() + kQuestion);
    for (std::size_t i = 0; i < targets.size(); ++i) targets[i] = id(needle[kKey + i]);
    const std::vector<double> log_probs = ranks.log_probs(batch, rows, targets);
    found += std::ranges::all_of(log_probs, [](double each) { return each > std::log(0.5); });
  }
  return static_cast<double>(found) / kDepths;
}

}  // namespace puna
