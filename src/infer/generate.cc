// SPDX-License-Identifier: Apache-2.0
// The token drawn last is not in the cache yet: it is fed only when another one is wanted.
#include "infer/generate.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <utility>

#include "base/error.h"
#include "infer/drafter.h"

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
  const bool complete = prefill(prompt, options, interrupted, writer);
  const Clock::time_point start = Clock::now();
  FinishReason reason = FinishReason::kInterrupted;
  if (complete && !writer.ended() && !is_set(interrupted)) writer.draw(engine_.model(), 0);
  while (complete && !writer.ended() && !is_set(interrupted)) {
    if (extend(writer, options)) continue;
    reason = FinishReason::kContextFull;
    break;
  }
  writer.result().decode_seconds = seconds_since(start);
  return writer.finish(reason);
}

// Makes the cache hold the prompt, and the model have the row behind it; false where it was interrupted.
bool Session::prefill(std::span<const Token> prompt, const GenerateOptions& options, const std::atomic<bool>* interrupted,
                      TokenWriter& writer) {
  engine_.adapter_number(options.adapters.get());  // refuses those it does not have
  const Clock::time_point start = Clock::now();
  std::size_t common = static_cast<std::size_t>(std::ranges::mismatch(tokens_, prompt).in1 - tokens_.begin());
  if (std::exchange(adapters_, options.adapters) != options.adapters) common = 0;
  common = std::min(common, prompt.size() - 1);  // logits come only from a token that is computed
  engine_.cache().truncate(sequence_, static_cast<std::int64_t>(common));
  tokens_.resize(common);
  writer.result().cached_tokens = static_cast<std::int64_t>(common);

  const auto remember = [&] {  // what the cache holds now, also after an error between two chunks
    tokens_.assign(prompt.begin(), prompt.begin() + engine_.cache().length(sequence_));
  };
  const std::array<RowDraw, 1> draws{writer.next_draw()};
  try {
    engine_.append(
        sequence_, prompt.subspan(common), [&](std::int64_t, std::int64_t) { return !is_set(interrupted); }, adapters_.get(),
        draws);
  } catch (...) {
    remember();
    throw;
  }
  remember();
  writer.result().prefill_seconds = seconds_since(start);
  return tokens_.size() == prompt.size();
}

// Feeds the last token, with what is proposed behind it, and draws. False where the context, or the pool that other sequences
// share, is full.
bool Session::extend(TokenWriter& writer, const GenerateOptions& options) {
  const auto length = static_cast<std::int64_t>(tokens_.size());
  if (length >= engine_.context() || engine_.cache().pages_to_grow(sequence_, length + 1) > engine_.cache().free_pages())
    return false;
  const auto kept = [&](std::int64_t rows) {  // what the cache holds from now on
    tokens_.resize(static_cast<std::size_t>(length + rows));
    engine_.cache().truncate(sequence_, length + rows);
  };
  tokens_.push_back(writer.last());
  std::span<const Token> proposals;
  const std::int64_t most =
      std::min(writer.most_proposals(), most_proposals(engine_, sequence_, kMostDraftTokens + 1, engine_.cache().free_pages()));
  try {
    if (most > 0) proposals = options.drafter->propose(tokens_, most, writer.sampler());
    tokens_.insert(tokens_.end(), proposals.begin(), proposals.end());
    const std::span<const Token> fed = std::span<const Token>(tokens_).subspan(static_cast<std::size_t>(length));
    std::array<RowDraw, kMostDraftTokens + 1> draws;
    for (std::size_t row = 0; row < fed.size(); ++row) draws[row] = writer.next_draw(row);
    engine_.append_few(sequence_, fed, adapters_.get(), std::span(draws).first(fed.size()));
    kept(writer.draw_along(engine_.model(), 0, proposals));
  } catch (...) {
    kept(0);
    throw;
  }
  return true;
}

}  // namespace puna
