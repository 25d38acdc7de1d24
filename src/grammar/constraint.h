// SPDX-License-Identifier: Apache-2.0
// Keeps a text that a model writes inside a grammar: which tokens may come next, and what the chosen one leaves allowed. Tokens are
// taken by their bytes, so one may end in the middle of a character. Masks are kept by position: the second visit costs a look-up.
// One text at a time, one thread at a time; the same object may write one text after another and remembers what it learnt.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "grammar/grammar.h"
#include "grammar/pushdown.h"
#include "grammar/vocabulary_index.h"

namespace puna {

class Constraint {
 public:
  // `max_memory`: bytes of masks, and of positions, before both are forgotten.
  Constraint(std::shared_ptr<const Grammar> grammar, std::shared_ptr<const VocabularyIndex> vocabulary,
             std::size_t max_memory = std::size_t{64} << 20);

  // Back to the beginning of a text. `stop_tokens` beside the vocabulary's own end tokens end it; whatever their bytes, they are
  // allowed where the text may end and nowhere else.
  void restart(std::span<const Token> stop_tokens = {});

  // Bit v % 32 of word v / 32 says whether token v may come next: [ceil(V / 32)], valid until the next call. No special token is
  // ever allowed but one that ends the text. Throws kUnsupported where the grammar allows too many readings at once (pushdown.h).
  std::span<const std::uint32_t> mask();
  // Takes the next token. False, and nothing changes, where the mask does not allow it.
  bool advance(Token token);

  bool may_end() const { return ended_ || automaton_.may_end(position_); }  // the text so far is one of the grammar
  bool ended() const { return ended_; }                                     // an end token was taken

 private:
  // A step of a class of characters that the grammar sees as one: from its state, by any byte like this one.
  struct ClassStep {
    std::uint8_t byte, next;
  };
  bool is_stop(Token token) const;
  void forget_when_full();
  void list_class_steps();
  const TokenMask& mask_of(Position position);
  int chars_that_may_follow(Position position, std::size_t char_class);
  bool next_characters(std::size_t char_class, std::vector<Position>& between);
  void try_tokens(Position position, const TokenGroup& group, TokenMask& mask);

  std::shared_ptr<const VocabularyIndex> vocabulary_;
  Pushdown automaton_;
  std::size_t max_memory_;
  Position position_;
  bool ended_ = false;
  std::vector<Token> stop_tokens_;                                                          // the vocabulary's own among them
  std::array<std::vector<std::vector<ClassStep>>, VocabularyIndex::kClasses> class_steps_;  // by the class's state
  std::unordered_map<Position, TokenMask> masks_;
  TokenMask mask_;               // what mask() gave
  std::vector<Position> path_;   // scratch of try_tokens: positions behind the bytes of a token
  std::vector<Position> after_;  // scratch of next_characters
};

}  // namespace puna
