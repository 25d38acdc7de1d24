// SPDX-License-Identifier: Apache-2.0
// Speculative decoding (Leviathan et al., 2023): something cheap proposes the next k tokens, and one pass of the model over k + 1
// rows shows what it would draw behind each. A pass reads every weight once, for one row or for several.
//
// A proposal is taken while it is the token that the sampler draws from the model's own logits; the first draw that differs is the
// next token itself, and what was proposed behind it is forgotten. Draws are functions of (seed, step), and k + 1 rows are fewer
// than kPanelRows, so products are summed as for one row: the answer is bit for bit the one without proposals, under grammars,
// penalties and at any temperature. (The paper's rejection sampling keeps the distribution and not the answer.)
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "infer/engine.h"
#include "infer/sampler.h"
#include "kernels/activations.h"
#include "text/token.h"

namespace puna {

inline constexpr std::int64_t kMostDraftTokens = kPanelRows - 2;  // with the token before them fewer than kPanelRows rows

// One text at a time; the next may begin as the last one did, as turns of a chat do.
class Drafter {
 public:
  virtual ~Drafter() = default;
  // At most `most` tokens that may follow `text` (prompt and answer), or none; valid until the next call. `sampler` is in the state
  // of the next draw: who draws from a copy of it uses the random numbers that decide.
  virtual std::span<const Token> propose(std::span<const Token> text, std::int64_t most, const Sampler& sampler) = 0;
  // Gives back what it holds for the text.
  virtual void end() {}
};

// What followed the last place where the text's last tokens, 4 to 2 of them, stood before: for answers that repeat the prompt.
std::shared_ptr<Drafter> lookup_drafter();

// What a smaller model of the same vocabulary draws. Drafters of one engine share its cache; where that is full they propose
// nothing. The engine is used by one thread at a time.
std::shared_ptr<Drafter> model_drafter(std::shared_ptr<Engine> draft);

// Throws kUsage where the two models do not mean the same by a token.
void check_draft(const Checkpoint& target, const Checkpoint& draft);

// How many proposals a pass has room for in which a sequence has `rows` rows and may take `pages` from the pool; 0 or more.
std::int64_t most_proposals(Engine& engine, int sequence, std::int64_t rows, std::int64_t pages);

}  // namespace puna
