// SPDX-License-Identifier: Apache-2.0
// All three measures walk a text through a fresh sequence and look at some positions' logits: the walk is TextWalk, what is done
// with the logits differs. Steps before the first wanted position are whole prefill chunks without logits.
#include "infer/score.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>

#include "base/error.h"
#include "kernels/softmax.h"

namespace puna {
namespace {

double logprob_of(std::span<const float> logits, Token token) {
  return static_cast<double>(logits[static_cast<std::size_t>(id(token))]) - log_sum_exp(logits);
}

// A fresh sequence of one engine, removed at the end.
class TextWalk {
 public:
  explicit TextWalk(Engine& engine) : engine_(engine), sequence_(engine.cache().add_sequence()) {
    const auto most = static_cast<std::size_t>(std::min(engine.model().max_rows(), engine.model().max_logit_rows()));
    rows_.resize(most);
    std::iota(rows_.begin(), rows_.end(), 0);
  }
  ~TextWalk() { engine_.cache().remove_sequence(sequence_); }
  TextWalk(const TextWalk&) = delete;
  TextWalk& operator=(const TextWalk&) = delete;

  std::size_t most_logit_rows() const { return rows_.size(); }
  void skip(std::span<const Token> tokens) {
    for (; !tokens.empty(); tokens = tokens.subspan(std::min(tokens.size(), chunk()))) {
      step(tokens.first(std::min(tokens.size(), chunk())), 0);
    }
  }
  // At most most_logit_rows() tokens -> logits [tokens, V], valid until the next step.
  std::span<const float> read(std::span<const Token> tokens) { return step(tokens, tokens.size()); }

 private:
  std::size_t chunk() const { return static_cast<std::size_t>(engine_.model().max_rows()); }
  std::span<const float> step(std::span<const Token> tokens, std::size_t logit_rows) {
    const std::array<Batch::Part, 1> parts{{{sequence_, static_cast<std::int64_t>(tokens.size())}}};
    return engine_.model().forward({.tokens = tokens, .parts = parts, .logit_rows = std::span(rows_).first(logit_rows)},
                                   engine_.cache());
  }

  Engine& engine_;
  int sequence_;
  std::vector<std::int32_t> rows_;  // 0, 1, 2, …
};

void check_tokens(const Engine& engine, std::span<const Token> tokens) {  // the last one is only predicted: no forward() checks it
  for (const Token token : tokens) {
    if (id(token) >= 0 && id(token) < engine.config().vocabulary) continue;
    fail(ErrorKind::kBadInput, "score", "token {} is outside the vocabulary: ids are 0 to {}", id(token),
         engine.config().vocabulary - 1);
  }
}

void check_room(const Engine& engine, std::int64_t tokens) {
  if (tokens <= engine.context()) return;
  fail(ErrorKind::kNoRoom, "context",
       "{} tokens are to be scored at once, the context holds {}: give --context {} or more, or less text", tokens,
       engine.context(), tokens);
}

// visit(position, logits of each engine [V]) for every position from `first` on. The engines advance together, step by step.
template <typename Visit>
void walk(std::span<Engine* const> engines, std::span<const Token> tokens, std::size_t first, Visit&& visit) {
  std::vector<std::unique_ptr<TextWalk>> walks;
  auto most = std::numeric_limits<std::size_t>::max();
  for (Engine* engine : engines) {
    walks.push_back(std::make_unique<TextWalk>(*engine));
    walks.back()->skip(tokens.first(first));
    most = std::min(most, walks.back()->most_logit_rows());
  }
  const auto vocabulary = static_cast<std::size_t>(engines.front()->config().vocabulary);
  std::vector<std::span<const float>> step(engines.size()), row(engines.size());  // each [rows, V], [V]
  for (std::size_t begin = first; begin < tokens.size(); begin += most) {
    const std::size_t rows = std::min(most, tokens.size() - begin);
    for (std::size_t e = 0; e < walks.size(); ++e) step[e] = walks[e]->read(tokens.subspan(begin, rows));
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t e = 0; e < walks.size(); ++e) row[e] = step[e].subspan(r * vocabulary, vocabulary);
      visit(begin + r, std::span<const std::span<const float>>(row));
    }
  }
}

// Sums of negative log-probabilities, and what they make.
class NllSums {
 public:
  void add(double nll) { sum_ += nll, squares_ += nll * nll, ++count_; }
  Perplexity result() const {
    const double count = static_cast<double>(count_), mean = sum_ / count;
    const double variance = std::max(0.0, squares_ / count - mean * mean);
    const double error = count_ > 1 ? std::exp(mean) * std::sqrt(variance / (count - 1)) : std::numeric_limits<double>::quiet_NaN();
    return {.value = std::exp(mean), .standard_error = error, .mean_nll = mean, .tokens = count_};
  }

 private:
  double sum_ = 0, squares_ = 0;
  std::int64_t count_ = 0;
};

// A text cut into windows.
struct Windows {
  std::span<const Token> tokens;
  std::int64_t window, scored_from, count;
};

Windows cut_windows(const Engine& engine, std::span<const Token> tokens, const PerplexityOptions& options) {
  const auto total = static_cast<std::int64_t>(tokens.size());
  if (options.window < 2) fail(ErrorKind::kUsage, "window", "{} is too small: give 2 tokens or more", options.window);
  if (options.scored_from < -1 || options.scored_from > options.window - 2) {
    fail(ErrorKind::kUsage, "scored_from", "{} is outside a window of {} tokens: give 0 to {}, or -1 for the second half",
         options.scored_from, options.window, options.window - 2);
  }
  if (total < options.window) {
    fail(ErrorKind::kUsage, "window", "the text has {} tokens, less than one window of {}: give a longer text or a smaller window",
         total, options.window);
  }
  if (options.max_windows == 0 || options.max_windows < -1) {
    fail(ErrorKind::kUsage, "max_windows", "{} is outside the range: give 1 or more, or -1 for all", options.max_windows);
  }
  check_tokens(engine, tokens);
  check_room(engine, options.window);
  const std::int64_t whole = total / options.window;
  return {.tokens = tokens,
          .window = options.window,
          .scored_from = std::min(options.scored_from < 0 ? options.window / 2 : options.scored_from, options.window - 2),
          .count = options.max_windows < 0 ? whole : std::min(whole, options.max_windows)};
}

// visit(next token, logits of each engine [V]) for every scored position of every window; after_window(windows done).
template <typename Visit, typename AfterWindow>
void walk_windows(std::span<Engine* const> engines, const Windows& windows, Visit&& visit, AfterWindow&& after_window) {
  const Tokenizer* tokenizer = engines.front()->checkpoint().tokenizer.get();
  const bool replace_first = tokenizer != nullptr && tokenizer->adds_bos() && tokenizer->bos().has_value();
  std::vector<Token> window;
  for (std::int64_t w = 0; w < windows.count; ++w) {
    const auto begin = windows.tokens.begin() + w * windows.window;
    window.assign(begin, begin + windows.window);
    if (replace_first) window.front() = *tokenizer->bos();
    const auto inputs = std::span<const Token>(window).first(window.size() - 1);  // the last token is only predicted
    walk(engines, inputs, static_cast<std::size_t>(windows.scored_from),
         [&](std::size_t position, std::span<const std::span<const float>> logits) { visit(window[position + 1], logits); });
    after_window(w + 1);
  }
}

// KL(p || q) in nats of the distributions of two rows of logits.
double divergence_of(std::span<const float> base, std::span<const float> other) {
  const double base_sum = log_sum_exp(base), other_sum = log_sum_exp(other);
  double kl = 0;
  for (std::size_t v = 0; v < base.size(); ++v) {
    const double log_p = static_cast<double>(base[v]) - base_sum;
    const double p = std::exp(log_p);
    if (p > 0) kl += p * (log_p - (static_cast<double>(other[v]) - other_sum));
  }
  return std::max(kl, 0.0);  // rounding may leave -1e-17
}

// The smallest value that `part` of the values do not exceed.
double quantile(std::vector<double>& values, double part) {
  const auto count = static_cast<double>(values.size());
  const auto index = static_cast<std::ptrdiff_t>(std::max(0.0, std::ceil(part * count) - 1));
  std::nth_element(values.begin(), values.begin() + index, values.end());
  return values[static_cast<std::size_t>(index)];
}

}  // namespace

std::vector<double> score_tokens(Engine& engine, std::span<const Token> tokens,
                                 const std::function<void(std::int64_t position, std::span<const float> logits)>& on_logits) {
  if (tokens.empty()) fail(ErrorKind::kUsage, "score", "there are no tokens to score: give at least one");
  check_tokens(engine, tokens);
  check_room(engine, static_cast<std::int64_t>(tokens.size()));
  std::vector<double> logprobs(tokens.size(), std::numeric_limits<double>::quiet_NaN());
  const std::array<Engine*, 1> engines{&engine};
  const std::span<const Token> inputs = on_logits ? tokens : tokens.first(tokens.size() - 1);
  walk(engines, inputs, 0, [&](std::size_t position, std::span<const std::span<const float>> logits) {
    if (on_logits) on_logits(static_cast<std::int64_t>(position), logits[0]);
    if (position + 1 < tokens.size()) logprobs[position + 1] = logprob_of(logits[0], tokens[position + 1]);
  });
  return logprobs;
}

Perplexity perplexity(Engine& engine, std::span<const Token> tokens, const PerplexityOptions& options,
                      const WindowProgress& progress) {
  const Windows windows = cut_windows(engine, tokens, options);
  const std::array<Engine*, 1> engines{&engine};
  NllSums sums;
  walk_windows(
      engines, windows, [&](Token next, std::span<const std::span<const float>> logits) { sums.add(-logprob_of(logits[0], next)); },
      [&](std::int64_t done) {
        if (progress) progress(done, windows.count, sums.result().value);
      });
  return sums.result();
}

Divergence divergence(Engine& base, Engine& other, std::span<const Token> tokens, const PerplexityOptions& options,
                      const WindowProgress& progress) {
  if (base.config().vocabulary != other.config().vocabulary) {
    fail(ErrorKind::kUsage, "divergence", "the vocabularies have {} and {} tokens: give two forms of one model",
         base.config().vocabulary, other.config().vocabulary);
  }
  const Windows windows = cut_windows(base, tokens, options);
  check_room(other, windows.window);
  const std::array<Engine*, 2> engines{&base, &other};
  NllSums base_sums, other_sums;
  std::vector<double> divergences;
  std::int64_t same = 0;
  const auto visit = [&](Token next, std::span<const std::span<const float>> logits) {
    base_sums.add(-logprob_of(logits[0], next));
    other_sums.add(-logprob_of(logits[1], next));
    divergences.push_back(divergence_of(logits[0], logits[1]));
    const auto top = [](std::span<const float> row) { return std::ranges::max_element(row) - row.begin(); };
    same += top(logits[0]) == top(logits[1]) ? 1 : 0;
  };
  walk_windows(engines, windows, visit, [&](std::int64_t done) {
    if (progress) progress(done, windows.count, other_sums.result().value);
  });

  Divergence result{.base = base_sums.result(), .other = other_sums.result()};
  if (divergences.empty()) return result;
  const auto count = static_cast<double>(divergences.size());
  result.mean_kl = std::accumulate(divergences.begin(), divergences.end(), 0.0) / count;
  result.same_top = static_cast<double>(same) / count;
  result.max_kl = *std::ranges::max_element(divergences);
  result.median_kl = quantile(divergences, 0.5);
  result.p99_kl = quantile(divergences, 0.99);
  return result;
}

}  // namespace puna
