// SPDX-License-Identifier: Apache-2.0
// A vocabulary prepared for masks, once per tokenizer: the bytes of its tokens as tries, so that tokens with a beginning in common
// are tried together, sorted into groups that can often be allowed as a whole. A group holds the tokens of one class of characters
// (letters, digits, spaces and _; or what stands in JSON strings as it is) and of one length. Where any n characters of a class may
// follow, every group of up to n of them is allowed without a look at its tokens.
// Special tokens are in no group: text never spells them.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "grammar/char_set.h"
#include "text/tokenizer.h"

namespace puna {

// One bit per token, 32 to a word: [ceil(V / 32)].
using TokenMask = std::vector<std::uint32_t>;

// A byte of the tokens that begin alike, in the order of a walk: all that begin with the bytes down to here follow it, up to `end`.
struct TrieNode {
  std::uint32_t end = 0;    // the number of the first node that does not begin like this
  std::int32_t token = -1;  // the token that ends here
  std::uint16_t depth = 0;  // bytes before this one
  std::uint8_t byte = 0;
};

// A class of characters as an automaton over UTF-8. State 0 stands between characters.
struct CharClassAutomaton {
  static constexpr std::uint8_t kStop = 0xFF;
  std::vector<std::array<std::uint8_t, 256>> next;  // [states] kStop: no character of the class has this byte here
};

struct TokenGroup {
  int char_class = -1;  // into VocabularyIndex::classes(); -1: of no class
  int chars = 0;        // of its longest token
  std::vector<TrieNode> trie;
  TokenMask mask;  // of all its tokens; empty where char_class is -1
};

class VocabularyIndex {
 public:
  static constexpr int kClasses = 2;        // every character of class 0 is also of class 1
  static constexpr int kLongestGroup = 16;  // tokens of more characters are one group

  explicit VocabularyIndex(const Tokenizer& tokenizer);

  int size() const { return static_cast<int>(starts_.size()) - 1; }  // V
  std::size_t words() const { return (starts_.size() + 30) / 32; }   // of a mask
  std::string_view bytes(Token token) const;                         // empty for special tokens and ids outside
  std::uint32_t longest() const { return longest_; }                 // bytes
  const std::vector<Token>& end_tokens() const { return end_tokens_; }
  std::span<const CharClassAutomaton> classes() const { return classes_; }
  std::span<const TokenGroup> groups() const { return groups_; }
  // (token, a token with the same bytes that stands in the tries for it)
  std::span<const std::pair<std::int32_t, std::int32_t>> twins() const { return twins_; }
  std::size_t memory() const;  // bytes

 private:
  void build_groups();

  std::vector<std::uint32_t> starts_;  // [V + 1] into text_
  std::vector<char> text_;
  std::uint32_t longest_ = 0;
  std::vector<Token> end_tokens_;
  std::vector<CharClassAutomaton> classes_;
  std::vector<TokenGroup> groups_;
  std::vector<std::pair<std::int32_t, std::int32_t>> twins_;
};

}  // namespace puna
