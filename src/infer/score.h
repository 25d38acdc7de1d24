// SPDX-License-Identifier: Apache-2.0
// Log-probabilities of given tokens, perplexity of a text, and how far one model's predictions are from another's.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "infer/engine.h"

namespace puna {

// logprobs[t] = log p(tokens[t] | tokens[0 .. t-1]); logprobs[0] has no condition and is NaN.
// on_logits(t, logits [V]) sees every position's logits (the prediction of token t + 1), where given.
std::vector<double> score_tokens(Engine& engine, std::span<const Token> tokens,
                                 const std::function<void(std::int64_t position, std::span<const float> logits)>& on_logits = {});

struct PerplexityOptions {
  std::int64_t window = 512;     // tokens per window; each window starts afresh, with BOS where the tokenizer adds it
  std::int64_t scored_from = -1; // first scored position in a window; -1: window / 2 (llama.cpp's convention), 0: all
  std::int64_t max_windows = -1;
};
struct Perplexity {
  double value = 0, standard_error = 0, mean_nll = 0;
  std::int64_t tokens = 0;       // scored
};
using WindowProgress = std::function<void(std::int64_t done, std::int64_t total, double perplexity_so_far)>;
Perplexity perplexity(Engine& engine, std::span<const Token> tokens, const PerplexityOptions& options, const WindowProgress& progress = {});

// KL(base || other) in nats per scored token, and how often the two choose the same token, over the same windows.
struct Divergence {
  Perplexity base, other;
  double mean_kl = 0, median_kl = 0, p99_kl = 0, max_kl = 0, same_top = 0;
};
Divergence divergence(Engine& base, Engine& other, std::span<const Token> tokens, const PerplexityOptions& options,
                      const WindowProgress& progress = {});

}  // namespace puna
