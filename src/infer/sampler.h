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
//
// A shortlist (kernels/shortlist.h) is as good as the whole row wherever it can be shown that the whole row would give the same
// token, bit for bit; where it cannot, it gives none. No logit outside is larger than the list's least one, the border, so the list
// has all that is likelier than the border. What the others have together is known between two bounds, wide apart where a mask or
// penalties may have lowered some of them. So it decides
//   greedy               where the largest adjusted logit is above the border
//   top-k                where k tokens are above the border, and what comes after top-k too
//   top-p                where its last token is the same at both bounds and above the border, and min-p after it
//   min-p alone          where min_p is more than the border's probability beside the largest
//   temperature alone    where nothing is adjusted: by the device's own draw, where it is not at the very edge of two tokens
// and not: typical before any top-k, log-probabilities, a token outside that a bias or a negative penalty raises.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "kernels/shortlist.h"
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
  // The same from the shortlist of logits [V]; nothing, and no step, where it does not decide.
  std::optional<SampledToken> sample(const Shortlist& list, std::span<const std::uint32_t> mask = {});
  // What a device needs to know to make the shortlist for the draw so many steps from now.
  RowDraw next_draw(std::uint64_t steps = 0) const;

 private:
  struct Candidate {
    double p;      // exp(scaled), not normalised
    float scaled;  // (logit - largest logit) / temperature, so <= 0
    Token token;
  };
  static bool likelier(const Candidate& a, const Candidate& b);
  // What is known of logits that are not in a shortlist. Of a whole row there are none.
  struct Others {
    float border = -std::numeric_limits<float>::infinity();  // none is larger before adjustments
    float peak = 0;                                          // the whole row's largest before adjustments
    double rest = 0;                                         // sum of exp((logit - peak) / temperature), as the device has it
    std::int64_t width = 0;                                  // V
    int adjusted = 0;                                        // by biases and penalties; some may be counted twice
    bool raised = false, masked = false;                     // some may be
  };

  std::span<const float> adjust(std::span<const float> logits, std::span<const std::uint32_t> mask);
  void apply_biases();
  void apply_penalties();
  std::size_t place_of(Token token) const;
  Token token_at(std::size_t place) const { return Token{tokens_.empty() ? static_cast<std::int32_t>(place) : tokens_[place]}; }
  std::optional<Token> choose(std::span<const float> logits);
  std::optional<Token> draw(std::span<const float> logits, float largest);
  bool gather_candidates(std::span<const float> logits, float largest);
  void gather_from(float floor);
  void find_mass(float largest);
  void keep_top_k();
  void keep_typical();
  bool keep_top_p();
  void keep_min_p();
  void advance(Token token);
  double candidate_mass() const;
  template <typename Before>
  Candidate prefix_end(double mass, Before before);

  SamplerOptions options_;
  bool penalties_, repetition_, raises_, only_temperature_;
  float inverse_temperature_;
  std::uint64_t step_ = 0;
  std::vector<Token> history_;  // prompt, then generated; kept only where a penalty reads it
  std::size_t prompt_length_ = 0;
  // Of what is being sampled:
  std::span<const std::int32_t> tokens_;  // [N] ascending, of a shortlist; of a whole row none, and N = V
  Others others_;
  double mass_ = 0, least_mass_ = 0;   // of the distribution that the next filter sees, at most and at least; the candidates may be
                                       // its likeliest part only
  std::vector<float> adjusted_;        // [N] logits after mask, bias and penalties
  std::vector<float> scaled_;          // [N] see Candidate
  std::vector<std::int32_t> counts_;   // [N] all zero between steps
  std::vector<Candidate> candidates_;  // [<= V] by ascending token
  std::vector<Candidate> order_;       // [<= V] scratch of prefix_end
};

}  // namespace puna
