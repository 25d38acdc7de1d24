// SPDX-License-Identifier: Apache-2.0
#include "infer/state_reader.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <utility>

#include "kernels/activations.h"

namespace puna {
namespace {

class EmbeddingReader : public StateReader {
 public:
  EmbeddingReader(const EmbeddingRequest& request, EmbeddingEvents events)
      : pooling_(request.pooling),
        normalise_(request.normalise),
        tokens_(static_cast<std::int64_t>(request.tokens.size())),
        events_(std::move(events)) {}

  std::int64_t first() const override { return pooling_ == Pooling::kMean ? 0 : tokens_ - 1; }

  void take(Llama& model, std::int64_t row, std::int64_t position, std::int64_t count) override {
    const std::int64_t width = model.config().width;
    for (std::int64_t i = std::max<std::int64_t>(0, first() - position); i < count; ++i) {
      const auto state = model.states().subspan(static_cast<std::size_t>((row + i) * width), static_cast<std::size_t>(width));
      if (position + i == first()) sum_.assign(state.size(), 0);
      for (std::size_t d = 0; d < state.size(); ++d) sum_[d] += static_cast<double>(state[d]);
    }
  }

  void done() override {
    double divisor = static_cast<double>(tokens_ - first());
    if (normalise_) {
      double squares = 0;
      for (const double value : sum_) squares += value * value;
      divisor = squares > 0 ? std::sqrt(squares) : 1;
    }
    std::vector<float> state;
    for (const double value : sum_) state.push_back(static_cast<float>(value / divisor));
    if (events_.done) events_.done(std::move(state));
  }

  void failed(const Error& error) override {
    if (events_.failed) events_.failed(error);
  }

 private:
  Pooling pooling_;
  bool normalise_;
  std::int64_t tokens_;
  EmbeddingEvents events_;
  std::vector<double> sum_;  // [D]
};

class ScoreReader : public StateReader {
 public:
  ScoreReader(const ScoreRequest& request, std::int64_t known, ScoreEvents events)
      : from_(request.from), top_(request.top), known_(known), tokens_(request.tokens), events_(std::move(events)) {
    for (std::size_t t = static_cast<std::size_t>(from_); t < tokens_.size(); ++t)
      scores_.push_back({.token = tokens_[t], .logprob = std::numeric_limits<double>::quiet_NaN(), .top = {}});
  }

  std::int64_t first() const override { return std::max<std::int64_t>(0, from_ - 1); }

  void take(Llama& model, std::int64_t row, std::int64_t position, std::int64_t count) override {
    const std::int64_t most = std::min(model.max_logit_rows(), kPanelRows - 1);
    const auto vocabulary = static_cast<std::size_t>(model.config().vocabulary);
    const std::int64_t end = std::min(count, static_cast<std::int64_t>(tokens_.size()) - 1 - position);  // nothing follows the last
    for (std::int64_t i = std::max<std::int64_t>(0, first() - position); i < end; i += most) {
      const std::int64_t rows = std::min(most, end - i);
      const std::span<const float> logits = model.logits_of_states(row + i, rows);
      for (std::int64_t r = 0; r < rows; ++r) {
        SampledToken& score = scores_[static_cast<std::size_t>(position + i + r + 1 - from_)];
        score.top.clear();
        const auto looked_at = static_cast<std::size_t>(std::max<std::int64_t>(known_, id(score.token) + 1));
        add_logprobs(logits.subspan(static_cast<std::size_t>(r) * vocabulary, looked_at), top_, score);
      }
    }
  }

  void done() override {
    if (events_.done) events_.done(std::move(scores_));
  }

  void failed(const Error& error) override {
    if (events_.failed) events_.failed(error);
  }

 private:
  std::int64_t from_;
  int top_;
  std::int64_t known_;
  std::vector<Token> tokens_;
  ScoreEvents events_;
  std::vector<SampledToken> scores_;  // of positions [from, T)
};

}  // namespace

std::unique_ptr<StateReader> embedding_reader(const EmbeddingRequest& request, EmbeddingEvents events) {
  if (request.tokens.empty()) fail(ErrorKind::kUsage, "embedding", "the text has no tokens: give at least one");
  return std::make_unique<EmbeddingReader>(request, std::move(events));
}

std::unique_ptr<StateReader> score_reader(const ScoreRequest& request, const Checkpoint& checkpoint, ScoreEvents events) {
  const auto tokens = static_cast<std::int64_t>(request.tokens.size());
  if (request.from < 0 || request.from >= tokens)
    fail(ErrorKind::kUsage, "from", "{} is outside a text of {} tokens: give a position in it", request.from, tokens);
  if (request.top < 0) fail(ErrorKind::kUsage, "top", "{} is outside the range: give 0 or more", request.top);
  return std::make_unique<ScoreReader>(request, checkpoint.known_tokens(), std::move(events));
}

}  // namespace puna
