// SPDX-License-Identifier: Apache-2.0
// Byte-level BPE: the tokenizer of Llama 3, whichever file it came from (tiktoken ranks, tokenizer.json, GGUF).
// Ids equal tiktoken's encode_ordinary. Meta's own wrapper first cuts texts above 400,000 characters and runs above 25,000
// characters; plain tiktoken does not, and neither does this.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/bpe_merges.h"
#include "text/piece_table.h"
#include "text/split_pattern.h"
#include "text/tokenizer.h"

namespace puna {

// A vocabulary read from a file, before it is checked. Ids are 0 .. pieces.size()-1.
struct ByteBpeVocabulary {
  PieceTable pieces;                                    // findable: what text may become
  std::vector<std::pair<std::string, Token>> specials;  // control tokens
  std::vector<std::pair<std::string, Token>> added;     // matched in ordinary text before anything else
  SplitPattern pattern = SplitPattern::kLlama3;
  bool whole_pieces = true;  // a piece that is in the vocabulary is taken as it is (`ignore_merges`, tiktoken)
};

// Two ids that join to a third.
struct BpeRule {
  std::uint32_t left, right, merged;
};

// tiktoken joins any two neighbours whose bytes together are a token, lowest id first: a rule for every way to cut a token in two.
std::vector<BpeRule> rules_of_ranks(const PieceTable& pieces);

class ByteBpe final : public Tokenizer {
 public:
  // Rules in rank order. Throws kBadInput where one of the 256 single bytes has no token, kUnsupported above a million tokens.
  ByteBpe(ByteBpeVocabulary vocabulary, const std::vector<BpeRule>& rules, const std::string& where);

  const PieceTable& pieces() const { return pieces_; }
  SplitPattern pattern() const { return pattern_; }
  bool whole_pieces() const { return whole_pieces_; }
  std::vector<BpeRule> rules() const;  // in rank order; those that an earlier one for the same pair hides are left out

 private:
  void encode_text(std::string_view text, std::vector<Token>& tokens) const override;
  std::string bytes_of(Token token) const override;
  void take(ByteBpeVocabulary&& vocabulary);
  void keep_reachable_pieces();

  std::array<std::uint32_t, 256> byte_ids_{};
  PieceTable pieces_;
  BpeMerges merges_;
  SplitPattern pattern_ = SplitPattern::kLlama3;
  bool whole_pieces_ = true;
};

// The printable alphabet in which tokenizer.json and GGUF write bytes (GPT-2's bytes_to_unicode): appends the bytes that `text`
// stands for; false where a character is not of the alphabet.
bool append_alphabet_bytes(std::string_view text, std::string& bytes);
// The other way: appends the characters that stand for `bytes`.
void append_in_alphabet(std::string_view bytes, std::string& text);

// Merge number `number`, whose sides are written in that alphabet. Throws kBadInput where either side or the result is no token.
BpeRule alphabet_rule(std::string_view left, std::string_view right, std::size_t number, const PieceTable& pieces,
                      const std::string& where);

}  // namespace puna
