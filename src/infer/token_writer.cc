// SPDX-License-Identifier: Apache-2.0
#include "infer/token_writer.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace puna {
namespace {

// A vocabulary may be padded, to a round number of rows, with ids that are no token: logits past the tokenizer's are not looked at.
std::size_t known_tokens(const Checkpoint& checkpoint) {
  const auto vocabulary = static_cast<std::size_t>(checkpoint.config.vocabulary);
  return checkpoint.tokenizer ? std::min(vocabulary, static_cast<std::size_t>(checkpoint.tokenizer->size())) : vocabulary;
}

void check_options(std::span<const Token> prompt, const GenerateOptions& options, const Tokenizer* tokenizer) {
  if (prompt.empty())
    fail(ErrorKind::kUsage, "generate", "the prompt has no tokens: give at least one, such as the begin-of-text token");
  if (options.max_tokens < -1) {
    fail(ErrorKind::kUsage, "max_tokens", "{} is outside the range: give 0 or more, or -1 for as many as fit", options.max_tokens);
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
  }
  fail(ErrorKind::kInternal, "generate", "no finish reason has the number {}", static_cast<int>(reason));
}

TokenWriter::TokenWriter(const Checkpoint& checkpoint, std::span<const Token> prompt, const GenerateOptions& options,
                         std::function<void(std::string_view)> on_text)
    : tokenizer_(checkpoint.tokenizer.get()),
      options_(options),
      on_text_(std::move(on_text)),
      known_tokens_(known_tokens(checkpoint)),
      sampler_(options.sampler),
      stream_(options.stop) {
  check_options(prompt, options, tokenizer_);
  sampler_.accept_prompt(prompt);
  result_.prompt_tokens = static_cast<std::int64_t>(prompt.size());
  text_starts_ = tokenizer_ != nullptr && std::ranges::all_of(prompt, [&](Token token) {
                   return !tokenizer_->contains(token) || tokenizer_->is_special(token);
                 });
  if (options_.max_tokens == 0) ended_ = FinishReason::kLength;
}

void TokenWriter::draw(std::span<const float> logits) {
  ended_ = take(sampler_.sample(logits.first(known_tokens_), options_.top_logprobs));
  if (!ended_ && static_cast<std::int64_t>(result_.tokens.size()) == options_.max_tokens) ended_ = FinishReason::kLength;
}

std::optional<FinishReason> TokenWriter::take(SampledToken sampled) {
  if (const auto reason = end_of(sampled.token)) {
    result_.last = sampled.token;
    return reason;
  }
  result_.tokens.push_back(sampled.token);
  if (tokenizer_ != nullptr) emit(stream_.push(text_of(sampled.token)));
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
  if (on_text_) on_text_(text);
}

Generation TokenWriter::finish(FinishReason reason) {
  result_.reason = ended_.value_or(reason);
  emit(stream_.finish());
  return std::move(result_);
}

}  // namespace puna
