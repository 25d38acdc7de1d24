// SPDX-License-Identifier: Apache-2.0
// One answer as it is written: draws a token from each row of logits, turns it into text, and knows when to end. It does not know
// where logits come from: Session and Scheduler feed it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "infer/generation.h"
#include "infer/sampler.h"
#include "infer/text_stream.h"
#include "model/checkpoint.h"

namespace puna {

// What is told of an answer while it is written, in this order for each token.
struct WriterEvents {
  std::function<void(const SampledToken&, std::string_view piece)> token = {};  // piece: its bytes, perhaps half a character
  std::function<void(std::string_view)> text = {};                              // whole characters, no part of a stop string
};

class TokenWriter {
 public:
  // The checkpoint outlives it. Throws kUsage for an empty prompt or an option out of range.
  TokenWriter(const Checkpoint& checkpoint, std::span<const Token> prompt, const GenerateOptions& options, WriterEvents events);

  // Draws the next token from logits [V]. Ids that the tokenizer does not know are never drawn.
  void draw(std::span<const float> logits);
  // Draws from rows of logits [R, V] as long as what is drawn goes on as proposed: row 0 is behind the last token, row i + 1 behind
  // proposals[i]; R is one more than they are. Returns how many rows were right, so that their keys and values stand.
  std::int64_t draw_along(std::span<const float> logits, std::span<const Token> proposals);
  // How many proposals are of use: with them all drawn, one more token may be.
  std::int64_t most_proposals() const;
  // Why nothing more is to be drawn, once that is so.
  std::optional<FinishReason> ended() const { return ended_; }
  // The token drawn last, to be fed for the next one.
  Token last() const { return result_.tokens.back(); }
  bool empty() const { return result_.tokens.empty(); }
  const Sampler& sampler() const { return sampler_; }

  // Ends it, for ended()'s reason or this one, and lets out the text that was held back.
  Generation finish(FinishReason reason);
  void silence() { events_ = nullptr; }     // no more events; may be called from within one
  Generation& result() { return result_; }  // whoever feeds it fills in what it knows: times, cached tokens

 private:
  std::optional<FinishReason> take(SampledToken sampled);
  std::optional<FinishReason> end_of(Token token) const;
  std::string text_of(Token token);
  void emit(std::string_view text);

  const Tokenizer* tokenizer_;
  GenerateOptions options_;
  std::shared_ptr<const WriterEvents> events_;  // null: nothing is told
  std::size_t known_tokens_;
  Sampler sampler_;
  TextStream stream_;
  Generation result_;
  bool text_starts_ = false;
  std::optional<FinishReason> ended_;
};

}  // namespace puna
