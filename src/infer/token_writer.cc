// SPDX-License-Identifier: Apache-2.0
#include "infer/token_writer.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "infer/drafter.h"
#include "infer/sample_row.h"

namespace puna {
namespace {

// The tokens that may be drawn next; nothing where the text must end and no token says so. Throws where none may be drawn at all.
std::optional<std::span<const std::uint32_t>> next_mask(Constraint* constraint) {
  if (constraint == nullptr) return std::span<const std::uint32_t>();
  const std::span<const std::uint32_t> mask = constraint->mask();
  if (std::ranges::any_of(mask, [](std::uint32_t word) { return word != 0; })) return mask;
  if (constraint->may_end()) return std::nullopt;
  fail(ErrorKind::kUnsupported, "grammar", "no token of this vocabulary can go on here, and the text may not end yet");
}

void check_options(std::span<const Token> prompt, const GenerateOptions& options, const Tokenizer* tokenizer) {
  if (prompt.empty())
    fail(ErrorKind::kUsage, "generate", "the prompt has no tokens: give at least one, such as the begin-of-text token");
  if (options.max_tokens < -1) {
    fail(ErrorKind::kUsage, "max_tokens", "{} is outside the range: give 0 or more, or -1 for as many as fit", options.max_tokens);
  }
  if (options.constraint != nullptr && (tokenizer == nullptr || options.ignore_end)) {
    fail(ErrorKind::kUsage, "constraint", "{}",
         tokenizer == nullptr ? "a grammar needs a tokenizer and this checkpoint has none: leave it out"
                              : "a text that must follow a grammar ends where that does: do not ignore end tokens");
  }
  if (options.drafter != nullptr && (options.draft_tokens < 1 || options.draft_tokens > kMostDraftTokens)) {
    fail(ErrorKind::kUsage, "draft_tokens", "{} is outside the range: give 1 to {}", options.draft_tokens, kMostDraftTokens);
  }
  if (!options.stop.empty() && tokenizer == nullptr) {
    fail(ErrorKind::kUsage, "stop", "stop strings need a tokenizer and this checkpoint has none: give stop tokens");
  }
}

}  // namespace

std::string_view name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kEndToken:
      return "end token";
    case FinishReason::kStopString:
      return "stop string";
    case FinishReason::kStopToken:
      return "stop token";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kContextFull:
      return "context full";
    case FinishReason::kInterrupted:
      return "interrupted";
    case FinishReason::kGrammarEnd:
      return "grammar end";
  }
  fail(ErrorKind::kInternal, "generate", "no finish reason has the number {}", static_cast<int>(reason));
}

TokenWriter::TokenWriter(const Checkpoint& checkpoint, std::span<const Token> prompt, const GenerateOptions& options,
                         WriterEvents events)
    : tokenizer_(checkpoint.tokenizer.get()),
      options_(options),
      events_(std::make_shared<const WriterEvents>(std::move(events))),
      sampler_(options.sampler),
      stream_(options.stop) {
  check_options(prompt, options, tokenizer_);
  sampler_.accept_prompt(prompt);
  result_.prompt_tokens = static_cast<std::int64_t>(prompt.size());
  if (options_.constraint != nullptr) options_.constraint->restart(options_.stop_tokens);
  // Under a grammar the text is what the grammar has read, a first space among it.
  text_starts_ = tokenizer_ != nullptr && options_.constraint == nullptr && std::ranges::all_of(prompt, [&](Token token) {
                   return !tokenizer_->contains(token) || tokenizer_->is_special(token);
                 });
  if (options_.max_tokens == 0) ended_ = FinishReason::kLength;
}

void TokenWriter::draw(Llama& model, std::int64_t row) {
  Constraint* const constraint = options_.constraint.get();
  const auto mask = next_mask(constraint);
  if (!mask) {
    ended_ = FinishReason::kGrammarEnd;
    return;
  }
  SampledToken sampled = sample_row(model, row, sampler_, options_.top_logprobs, *mask);
  if (constraint != nullptr) {
    const bool taken = constraint->advance(sampled.token);
    PUNA_CHECK(taken, "generate", "token {} was drawn and is not allowed", id(sampled.token));
  }
  ended_ = take(std::move(sampled));
  if (!ended_ && static_cast<std::int64_t>(result_.tokens.size()) == options_.max_tokens) ended_ = FinishReason::kLength;
}

std::int64_t TokenWriter::draw_along(Llama& model, std::int64_t first, std::span<const Token> proposals) {
  result_.drafted += static_cast<std::int64_t>(proposals.size());
  for (std::size_t row = 0;; ++row) {
    const std::size_t before = result_.tokens.size();
    draw(model, first + static_cast<std::int64_t>(row));
    const bool proposed = row < proposals.size() && result_.tokens.size() > before && last() == proposals[row];
    result_.accepted += proposed ? 1 : 0;
    if (!proposed || ended_ || events_ == nullptr) return static_cast<std::int64_t>(row) + 1;
  }
}

std::int64_t TokenWriter::most_proposals() const {
  if (options_.drafter == nullptr) return 0;
  const std::int64_t left = options_.max_tokens - static_cast<std::int64_t>(result_.tokens.size());
  return options_.max_tokens < 0 ? options_.draft_tokens : std::min(options_.draft_tokens, left - 1);
}

std::optional<FinishReason> TokenWriter::take(SampledToken sampled) {
  if (const auto reason = end_of(sampled.token)) {
    result_.last = sampled.token;
    return reason;
  }
  result_.tokens.push_back(sampled.token);
  const std::string piece = tokenizer_ != nullptr ? text_of(sampled.token) : std::string();
  if (const auto events = events_; events != nullptr && events->token) events->token(sampled, piece);
  emit(stream_.push(piece));
  if (options_.top_logprobs >= 0) result_.logprobs.push_back(std::move(sampled));
  if (stream_.stopped()) return FinishReason::kStopString;
  return std::nullopt;
}

std::optional<FinishReason> TokenWriter::end_of(Token token) const {
  if (std::ranges::count(options_.stop_tokens, token) > 0) return FinishReason::kStopToken;
  const bool ends = tokenizer_ != nullptr && std::ranges::count(tokenizer_->end_tokens(), token) > 0;
  if (ends && !options_.ignore_end) return FinishReason::kEndToken;
  return std::nullopt;
}

// The text of a prompt of special tokens only begins here, where SentencePiece's leading space is not part of it.
std::string TokenWriter::text_of(Token token) {
  if (!text_starts_ || tokenizer_->is_special(token)) return tokenizer_->piece(token, options_.with_specials);
  text_starts_ = false;
  return tokenizer_->decode(std::span(&token, 1), options_.with_specials);
}

void TokenWriter::emit(std::string_view text) {
  if (text.empty()) return;
  result_.text += text;
  if (const auto events = events_; events != nullptr && events->text) events->text(text);
}

Generation TokenWriter::finish(FinishReason reason) {
  result_.reason = ended_.value_or(reason);
  if (result_.reason == FinishReason::kStopString) result_.stop = stream_.found();
  emit(stream_.finish());
  return std::move(result_);
}

}  // namespace puna
