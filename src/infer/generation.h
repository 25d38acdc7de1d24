// SPDX-License-Identifier: Apache-2.0
// What an answer is asked with, and what it comes to.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/constraint.h"
#include "infer/sampler.h"
#include "model/adapters.h"
#include "text/token.h"

namespace puna {

class Drafter;

struct GenerateOptions {
  SamplerOptions sampler;
  std::int64_t max_tokens = -1;    // -1: until the context is full; 0: only the prompt is read into the cache
  std::vector<std::string> stop;   // strings; none of them is emitted, not even in parts; they need a tokenizer
  std::vector<Token> stop_tokens;  // beside the checkpoint's own end tokens
  bool ignore_end = false;         // go on past end tokens
  bool with_specials = false;      // special tokens appear in the text
  int top_logprobs = -1;           // -1: no log-probabilities at all
  // What the generated text must be, begun afresh by whoever writes it, and by nobody else meanwhile: tokens outside it are never
  // drawn, and end and stop tokens only where it may end. The text may still be cut short by a stop string, by max_tokens or a full
  // context. Not with ignore_end.
  std::shared_ptr<Constraint> constraint;
  std::shared_ptr<const AdapterSet> adapters = nullptr;  // one of the engine's
  // Proposes tokens of this answer, and of no other meanwhile, up to so many at once (infer/drafter.h): the same answer in fewer
  // passes. Where logit_rows of the engine are fewer than one more, those are the bound.
  std::shared_ptr<Drafter> drafter = nullptr;
  std::int64_t draft_tokens = 4;
};

// kGrammarEnd: nothing may follow, and the vocabulary has no token that says so.
enum class FinishReason { kEndToken, kStopString, kStopToken, kLength, kContextFull, kInterrupted, kGrammarEnd };
std::string_view name(FinishReason reason);

struct Generation {
  std::vector<Token> tokens;           // generated, the end token left out; those of a stop string are in it
  std::vector<SampledToken> logprobs;  // one per token, where asked for
  std::string text;                    // all that was let out; empty where the checkpoint has no tokenizer
  FinishReason reason = FinishReason::kLength;
  std::string stop;                                   // the stop string that ended it, if one did
  Token last{-1};                                     // the end or stop token that ended it, if one did
  std::int64_t prompt_tokens = 0, cached_tokens = 0;  // cached: at the prompt's beginning, not computed again
  double prefill_seconds = 0, decode_seconds = 0;
  std::int64_t drafted = 0, accepted = 0;  // tokens that were proposed, and those of them that are in the answer
};

}  // namespace puna
