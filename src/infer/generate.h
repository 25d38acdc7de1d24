// SPDX-License-Identifier: Apache-2.0
// The generation loop: prompt in, tokens and text out as they come, with every way to stop.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "infer/engine.h"
#include "infer/sampler.h"

namespace puna {

struct GenerateOptions {
  SamplerOptions sampler;
  std::int64_t max_tokens = -1;    // -1: until the context is full; 0: only the prompt is read into the cache
  std::vector<std::string> stop;   // strings; none of them is emitted, not even in parts; they need a tokenizer
  std::vector<Token> stop_tokens;  // beside the checkpoint's own end tokens
  bool ignore_end = false;         // go on past end tokens
  bool with_specials = false;      // special tokens appear in the text
  int top_logprobs = -1;           // -1: no log-probabilities at all
};

enum class FinishReason { kEndToken, kStopString, kStopToken, kLength, kContextFull, kInterrupted };
std::string_view name(FinishReason reason);

struct Generation {
  std::vector<Token> tokens;           // generated, the end token left out; those of a stop string are in it
  std::vector<SampledToken> logprobs;  // one per token, where asked for
  std::string text;                    // all that on_text got; empty where the checkpoint has no tokenizer
  FinishReason reason = FinishReason::kLength;
  Token last{-1};                                     // the end or stop token that ended it, if one did
  std::int64_t prompt_tokens = 0, cached_tokens = 0;  // cached: at the prompt's beginning, not computed again
  double prefill_seconds = 0, decode_seconds = 0;
};

// One conversation's place in the cache: knows which tokens are there and prefills only what is new.
class Session {
 public:
  explicit Session(Engine& engine);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Continues from `prompt` (the whole of it: the longest common beginning with what is cached is reused).
  // on_text gets pieces that end on whole UTF-8 characters and never hold a part of a stop string; a character that the last token
  // leaves unfinished is in `tokens` only. Ids that the tokenizer does not know are never drawn. `interrupted` stops between tokens
  // and between prefill chunks. Throws kUsage for an empty prompt or an option out of range, kNoRoom for a prompt longer than the
  // context.
  Generation generate(std::span<const Token> prompt, const GenerateOptions& options,
                      const std::function<void(std::string_view)>& on_text = {}, const std::atomic<bool>* interrupted = nullptr);

  std::span<const Token> tokens() const { return tokens_; }  // in the cache

 private:
  std::span<const float> prefill(std::span<const Token> prompt, const std::atomic<bool>* interrupted, Generation& result);
  std::span<const float> feed(Token token);

  Engine& engine_;
  int sequence_;
  std::vector<Token> tokens_;
};

}  // namespace puna
