// SPDX-License-Identifier: Apache-2.0
// The next token from logits. The steps, in order: logit bias; repetition penalty (Keskar et al., 2019), presence and frequency
// penalties (OpenAI's definition); temperature; top-k; typical (Meister et al., 2022); top-p (Holtzman et al., 2019); min-p
// (Nguyen et al., 2024); draw. Temperature 0 is greedy: the largest logit, the lowest id on ties.
// A draw is a function of (seed, step), so the same seed gives the same tokens.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "text/token.h"

namespace puna {

struct SamplerOptions {
  double temperature = 0.6;            // Llama's own default, with top_p 0.9
  int top_k = 0;                       // 0: off
  double top_p = 0.9;                  // 1: off
  double min_p = 0;                    // 0: off
  double typical_p = 1;                // 1: off
  double repetition_penalty = 1;       // 1: off; over the last `penalty_window` tokens, prompt included
  double presence_penalty = 0;
  double frequency_penalty = 0;        // presence and frequency: generated tokens only
  int penalty_window = 64;             // -1: all
  std::vector<std::pair<Token, double>> logit_bias;
  std::uint64_t seed = 0;
};

// Throws kUsage naming the option for a value outside its range.
void check_sampler_options(const SamplerOptions& options);

struct SampledToken {
  Token token;
  double logprob = 0;                                // under the model's own distribution (temperature 1, nothing filtered)
  std::vector<std::pair<Token, double>> top;         // the most likely tokens and their log-probabilities, as many as asked
};

class Sampler {
 public:
  explicit Sampler(SamplerOptions options);

  void accept_prompt(std::span<const Token> tokens);                       // what penalties look back on
  SampledToken sample(std::span<const float> logits, int top_logprobs = 0);  // logits [V]; remembers the token; advances the step

 private:
  SamplerOptions options_;
  std::uint64_t step_ = 0;
  std::vector<Token> history_;
  std::size_t prompt_length_ = 0;
  std::vector<std::pair<float, std::int32_t>> candidates_;  // [V] scratch
  std::vector<float> adjusted_;                              // [V] scratch
};

}  // namespace puna
