// SPDX-License-Identifier: Apache-2.0
// One answer as it is written: draws a token from each row that a model has made a shortlist of, turns it into text, and knows when
// to end. It does not know what the rows are: Session and Scheduler run the model.
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
#include "model/llama.h"

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

  // What a pass must be told of the row that the next token is drawn from, or of one so many rows behind it.
  RowDraw next_draw(std::size_t rows = 0) const { return sampler_.next_draw(rows); }
  // Draws the next token from a row of the model's last pass. Ids that the tokenizer does not know are never drawn.
  void draw(Llama& model, std::int64_t row);
  // Draws from rows, the first one and those that follow, as long as what is drawn goes on as proposed: the first is behind the
  // last token, the one after row i behind proposals[i]. Returns how many rows were right, so that their keys and values stand.
  std::int64_t draw_along(Llama& model, std::int64_t first, std::span<const Token> proposals);
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
  Sampler sampler_;
  TextStream stream_;
  Generation result_;
  bool text_starts_ = false;
  std::optional<FinishReason> ended_;
};

}  // namespace puna
