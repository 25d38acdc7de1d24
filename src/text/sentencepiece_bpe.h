// SPDX-License-Identifier: Apache-2.0
// SentencePiece's BPE (Kudo and Richardson, EMNLP 2018), the tokenizer of Llama 2: no cutting into words; the whole text is one run
// of characters in which the neighbours whose joined piece scores highest are merged, the leftmost of equals. A space is written
// U+2581; characters that are no piece become byte tokens <0xNN>. Ids equal the SentencePiece library's on valid UTF-8 under the
// identity normalizer (Llama 2's); invalid bytes become byte tokens here, U+FFFD there.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/name_matcher.h"
#include "text/piece_table.h"
#include "text/tokenizer.h"

namespace puna {

enum class PieceType { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

struct SentencePiece {
  std::string text;
  float score = 0;
  PieceType type = PieceType::kNormal;
};

struct SentencePieceVocabulary {
  std::vector<SentencePiece> pieces;  // by id
  bool add_dummy_prefix = true;       // a space in front of every text
  bool remove_extra_spaces = false;   // at both ends, and all but one within
  bool escape_spaces = true;          // as U+2581
};

class SentencePieceBpe final : public Tokenizer {
 public:
  // Throws kBadInput for pieces that repeat or are empty, for byte pieces not named <0xNN>, and where neither all 256 bytes nor an
  // unknown piece is there.
  SentencePieceBpe(SentencePieceVocabulary vocabulary, const std::string& where);

  // The vocabulary it was made of.
  SentencePieceVocabulary vocabulary() const;

  std::vector<Token> encode_continuation(std::string_view before, std::string_view text) const override;

 private:
  struct Symbol;
  struct Work;

  void encode_text(std::string_view text, std::vector<Token>& tokens) const override { encode_behind({}, text, tokens); }
  std::string bytes_of(Token token) const override;
  bool strips_first_space() const override { return add_dummy_prefix_; }

  void read_byte_piece(const SentencePiece& piece, std::uint32_t id, const std::string& where);
  void encode_behind(std::string_view before, std::string_view text, std::vector<Token>& tokens) const;
  void normalize(std::string_view before, std::string_view text, Work& work) const;
  void append_space(Work& work) const;
  void consider(Work& work, std::int32_t left) const;
  void merge(Work& work) const;
  void emit(const Work& work, std::string_view piece, std::vector<Token>& tokens) const;

  PieceTable pieces_;
  std::vector<float> scores_;     // [V]
  std::vector<PieceType> types_;  // [V]
  NameMatcher user_defined_;      // found before anything is merged
  std::array<std::uint32_t, 256> byte_ids_;
  std::uint32_t unknown_ = PieceTable::kNone;
  bool has_bytes_ = false, has_unused_ = false;
  bool add_dummy_prefix_, remove_extra_spaces_, escape_spaces_;
};

}  // namespace puna
