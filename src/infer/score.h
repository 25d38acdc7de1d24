// SPDX-License-Identifier: Apache-2.0
// Log-probabilities of given tokens, perplexity of a text, and how far one model's predictions are from another's. All sums in F64.
// Engines made with logit_rows above 1 score that many positions per step; with 1 every scored position is a step of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "infer/engine.h"

namespace puna {

// logprobs[t] = log p(tokens[t] | tokens[0 .. t-1]); logprobs[0] has no condition and is NaN.
// on_logits(t, logits [V]) sees every position's logits (the prediction of token t + 1), where given.
// Throws kNoRoom where the tokens do not fit the context, kUsage where there are none.
std::vector<double> score_tokens(Engine& engine, std::span<const Token> tokens,
                                 const std::function<void(std::int64_t position, std::span<const float> logits)>& on_logits = {});

// As llama.cpp's `perplexity` counts: the tokens are cut into windows of n (a shorter rest is dropped), each window starts afresh
// with its first token replaced by BOS where the tokenizer adds one, and the predictions behind positions f .. n - 2 are scored:
//   perplexity = exp(m), m = mean of -log p(next token);  standard error = exp(m) sqrt(var / (count - 1))
struct PerplexityOptions {
  std::int64_t window = 512;      // n, at least 2
  std::int64_t scored_from = -1;  // f; -1: n / 2 (llama.cpp's convention), 0: all
  std::int64_t max_windows = -1;  // -1: all
};
struct Perplexity {
  double value = 0, standard_error = 0, mean_nll = 0;
  std::int64_t tokens = 0;  // scored
};
using WindowProgress = std::function<void(std::int64_t done, std::int64_t total, double perplexity_so_far)>;
// Throws kUsage where the text is shorter than one window or an option is out of range, kNoRoom for a window beyond the context.
Perplexity perplexity(Engine& engine, std::span<const Token> tokens, const PerplexityOptions& options,
                      const WindowProgress& progress = {});

// KL(base || other) in nats per scored token, and how often the two choose the same token, over the same windows. Both engines
// advance together, so nothing but one step's logits is kept. p99 is the smallest figure that 99 % do not exceed; the median
// likewise.
struct Divergence {
  Perplexity base, other;
  double mean_kl = 0, median_kl = 0, p99_kl = 0, max_kl = 0, same_top = 0;
};
// Throws as perplexity(), and kUsage for vocabularies of different sizes.
Divergence divergence(Engine& base, Engine& other, std::span<const Token> tokens, const PerplexityOptions& options,
                      const WindowProgress& progress = {});

}  // namespace puna
