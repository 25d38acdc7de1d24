// SPDX-License-Identifier: Apache-2.0
// The token drawn last is not in the cache yet: it is fed only when another one is wanted.
#include "infer/generate.h"

#include <algorithm>
#include <chrono>

#include "base/error.h"

namespace puna {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

bool is_set(const std::atomic<bool>* flag) { return flag != nullptr && flag->load(std::memory_order_relaxed); }

}  // namespace

Session::Session(Engine& engine) : engine_(engine), sequence_(engine.cache().add_sequence()) {}

Session::~Session() { engine_.cache().remove_sequence(sequence_); }

Generation Session::generate(std::span<const Token> prompt, const GenerateOptions& options,
                             const std::function<void(std::string_view)>& on_text, const std::atomic<bool>* interrupted) {
  TokenWriter writer(engine_.checkpoint(), prompt, options, {.text = on_text});
  std::span<const float> logits = prefill(prompt, interrupted, writer.result());
  const Clock::time_point start = Clock::now();
  FinishReason reason = FinishReason::kInterrupted;
  while (!writer.ended() && !is_set(interrupted)) {
    if (!writer.empty()) logits = feed(writer.last());
    if (logits.empty()) {
      if (!writer.empty()) reason = FinishReason::kContextFull;
      break;
    }
    writer.draw(logits);
  }
  writer.result().decode_seconds = seconds_since(start);
  return writer.finish(reason);
}

// Makes the cache hold the prompt and returns the logits behind it; nothing where it was interrupted.
std::span<const float> Session::prefill(std::span<const Token> prompt, const std::atomic<bool>* interrupted, Generation& result) {
  const Clock::time_point start = Clock::now();
  std::size_t common = static_cast<std::size_t>(std::ranges::mismatch(tokens_, prompt).in1 - tokens_.begin());
  common = std::min(common, prompt.size() - 1);  // logits come only from a token that is computed
  engine_.cache().truncate(sequence_, static_cast<std::int64_t>(common));
  tokens_.resize(common);
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
