// SPDX-License-Identifier: Apache-2.0
// What happens to a token once it is drawn is TokenSink. The token drawn last is not in the cache yet: it is fed only when another
// one is wanted.
#include "infer/generate.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <optional>
#include <utility>

#include "base/error.h"
#include "infer/text_stream.h"

namespace puna {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

bool is_set(const std::atomic<bool>* flag) { return flag != nullptr && flag->load(std::memory_order_relaxed); }

// What a drawn token becomes: an end, or one more token with its text.
class TokenSink {
 public:
  TokenSink(const Tokenizer* tokenizer, std::span<const Token> prompt, const GenerateOptions& options,
            const std::function<void(std::string_view)>& on_text, Generation& result)
      : tokenizer_(tokenizer), options_(options), on_text_(on_text), result_(result), stream_(options.stop) {
    text_starts_ = tokenizer != nullptr && std::ranges::all_of(prompt, [&](Token token) {
                     return !tokenizer->contains(token) || tokenizer->is_special(token);
                   });
  }

  // The reason to end, if this token gives one.
  std::optional<FinishReason> take(SampledToken sampled) {
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

  void finish() { emit(stream_.finish()); }

 private:
  std::optional<FinishReason> end_of(Token token) const {
    if (std::ranges::count(options_.stop_tokens, token) > 0) return FinishReason::kStopToken;
    const bool ends = tokenizer_ != nullptr && std::ranges::count(tokenizer_->end_tokens(), token) > 0;
    if (ends && !options_.ignore_end) return FinishReason::kEndToken;
    return std::nullopt;
  }

  // The text of a prompt of special tokens only begins here, where SentencePiece's leading space is not part of it.
  std::string text_of(Token token) {
    if (!text_starts_ || tokenizer_->is_special(token)) return tokenizer_->piece(token, options_.with_specials);
    text_starts_ = false;
    return tokenizer_->decode(std::span(&token, 1), options_.with_specials);
  }

  void emit(std::string_view text) {
    if (text.empty()) return;
    result_.text += text;
    if (on_text_) on_text_(text);
  }

  const Tokenizer* tokenizer_;
  const GenerateOptions& options_;
  const std::function<void(std::string_view)>& on_text_;
  Generation& result_;
  TextStream stream_;
  bool text_starts_ = false;
};

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

Session::Session(Engine& engine) : engine_(engine), sequence_(engine.cache().add_sequence()) {}

Session::~Session() { engine_.cache().remove_sequence(sequence_); }

Generation Session::generate(std::span<const Token> prompt, const GenerateOptions& options,
                             const std::function<void(std::string_view)>& on_text, const std::atomic<bool>* interrupted) {
  const Tokenizer* tokenizer = engine_.checkpoint().tokenizer.get();
  check_options(prompt, options, tokenizer);
  Sampler sampler(options.sampler);
  sampler.accept_prompt(prompt);
  const std::size_t known = known_tokens(engine_.checkpoint());
  Generation result;
  TokenSink sink(tokenizer, prompt, options, on_text, result);

  std::span<const float> logits = prefill(prompt, interrupted, result);
  const Clock::time_point start = Clock::now();
  const auto next = [&]() -> std::optional<FinishReason> {  // draws one token; the reason to end after it, if there is one
    if (static_cast<std::int64_t>(result.tokens.size()) == options.max_tokens) return FinishReason::kLength;
    if (is_set(interrupted)) return FinishReason::kInterrupted;
    if (!result.tokens.empty()) logits = feed(result.tokens.back());
    if (logits.empty()) return result.tokens.empty() ? FinishReason::kInterrupted : FinishReason::kContextFull;
    return sink.take(sampler.sample(logits.first(known), options.top_logprobs));
  };
  std::optional<FinishReason> reason;
  while (!reason) reason = next();
  result.reason = *reason;
  sink.finish();
  result.decode_seconds = seconds_since(start);
  return result;
}

// Makes the cache hold the prompt and returns the logits behind it; nothing where it was interrupted.
std::span<const float> Session::prefill(std::span<const Token> prompt, const std::atomic<bool>* interrupted, Generation& result) {
  const Clock::time_point start = Clock::now();
  std::size_t common = static_cast<std::size_t>(std::ranges::mismatch(tokens_, prompt).in1 - tokens_.begin());
  common = std::min(common, prompt.size() - 1);  // logits come only from a token that is computed
  engine_.cache().truncate(sequence_, static_cast<std::int64_t>(common));
  tokens_.resize(common);
  result.prompt_tokens = static_cast<std::int64_t>(prompt.size());
  result.cached_tokens = static_cast<std::int64_t>(common);

  const auto remember = [&] {  // what the cache holds now, also after an error between two chunks
    tokens_.assign(prompt.begin(), prompt.begin() + engine_.cache().length(sequence_));
  };
  std::span<const float> logits;
  try {
    logits = engine_.append(sequence_, prompt.subspan(common), [&](std::int64_t, std::int64_t) { return !is_set(interrupted); });
  } catch (...) {
    remember();
    throw;
  }
  remember();
  result.prefill_seconds = seconds_since(start);
  return logits;
}

// Nothing where the context, or the pool that other sequences share, is full.
std::span<const float> Session::feed(Token token) {
  if (static_cast<std::int64_t>(tokens_.size()) >= engine_.context()) return {};
  try {
    const std::span<const float> logits = engine_.append(sequence_, std::span(&token, 1));
    tokens_.push_back(token);
    return logits;
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::kNoRoom) return {};
    throw;
  }
}

}  // namespace puna
