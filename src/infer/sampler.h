// SPDX-License-Identifier: Apache-2.0
// The next token from logits l [V]. The steps, in order; each works on what the one before left, renormalised:
//   mask           l[v] = -inf for every v that a grammar forbids (grammar/constraint.h)
//   bias           l[v] += bias[v]
//   repetition     l[v] = l[v] > 0 ? l[v] / r : l[v] r   for every v in the window (Keskar et al., 2019, section 4.1)
//   presence, frequency   l[v] -= presence + frequency c[v]   for every v generated c[v] > 0 times (OpenAI's definition)
//   temperature    p = softmax(l / temperature)
//   top-k          the k most likely
//   typical        in ascending |-log p - entropy(p)|, the shortest beginning whose sum reaches typical_p (Meister et al., 2022)
//   top-p          in descending p, the shortest beginning whose sum reaches top_p (Holtzman et al., 2019)
//   min-p          those with p >= min_p max(p) (Nguyen et al., 2024)
//   draw           token v with probability p[v]
// Ties go to the lower id everywhere, and every step leaves at least one token. Temperature 0 is greedy: the largest adjusted
// logit. A draw is a function of (seed, step), so the same seed gives the same tokens. NaN logits are never chosen.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "text/token.h"

namespace puna {

struct SamplerOptions {
  double temperature = 0.6;       // Llama's own default, with top_p 0.9
  int top_k = 0;                  // 0: off
  double top_p = 0.9;             // 1: off
  double min_p = 0;               // 0: off
  double typical_p = 1;           // 1: off
  double repetition_penalty = 1;  // 1: off; over the last `penalty_window` tokens, prompt included
  double presence_penalty = 0;    // presence and frequency: -2 to 2, over all generated tokens, not the prompt
  double frequency_penalty = 0;
  int penalty_window = 64;                           // -1: all
  std::vector<std::pair<Token, double>> logit_bias;  // -100 to 100 each
  std::uint64_t seed = 0;
};

// Throws kUsage naming the option for a value outside its range.
void check_sampler_options(const SamplerOptions& options);

struct SampledToken {
  Token token;
  double logprob = 0;                         // under the model's own distribution (temperature 1, nothing adjusted or filtered)
  std::vector<std::pair<Token, double>> top;  // the most likely tokens and their log-probabilities, as many as asked
};

// Fills in a token's log-probability under logits [V], and the `top` likeliest tokens with theirs.
void add_logprobs(std::span<const float> logits, int top, SampledToken& sampled);

class Sampler {
 public:
  // Throws what check_sampler_options throws.
  explicit Sampler(SamplerOptions options);

  void accept_prompt(std::span<const Token> tokens);  // what the repetition penalty looks back on
  // logits [V]; remembers the token; advances the step. top_logprobs: how many entries `top` gets; -1: no log-probabilities (they
  // cost a pass over V). `mask` [ceil(V / 32)], where it is not empty: bit v % 32 of word v / 32 allows token v. Throws kBadInput
  // where no allowed logit is a finite number, kUsage for a bias on a token outside V.
  SampledToken sample(std::span<const float> logits, int top_logprobs = -1, std::span<const std::uint32_t> mask = {});

 private:
  struct Candidate {
    double p;      // exp(scaled), not normalised
    float scaled;  // (logit - largest logit) / temperature, so <= 0
    std::int32_t token;
  };
  static bool likelier(const Candidate& a, const Candidate& b);

  std::span<const float> adjust(std::span<const float> logits, std::span<const std::uint32_t> mask);
  void apply_penalties();
  Token draw(std::span<const float> logits);
  void gather_candidates(std::span<const float> logits);
  void gather_from(float floor);
  void keep_top_k();
  void keep_typical();
  void keep_top_p();
  void keep_min_p();
  double candidate_mass() const;
  template <typename Before>
  Candidate prefix_end(double mass, Before before);

  SamplerOptions options_;
  bool penalties_, repetition_;
  std::uint64_t step_ = 0;
  std::vector<Token> history_;  // prompt, then generated; kept only where a penalty reads it
  std::size_t prompt_length_ = 0;
  double mass_ = 0;              // of the distribution that the next filter sees; the candidates may be its likeliest part only
  std::vector<float> adjusted_;  // [V] logits after mask, bias and penalties
  std::vector<float> scaled_;    // [V] see Candidate
  std::vector<std::int32_t> counts_;   // [V] all zero between steps
  std::vector<Candidate> candidates_;  // [<= V] by ascending token
  std::vector<Candidate> order_;       // [<= V] scratch of prefix_end
};

}  // namespace puna
