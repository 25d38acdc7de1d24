// SPDX-License-Identifier: Apache-2.0
// Texts walked through a grammar byte by byte, without a vocabulary; and vocabularies that a test writes down.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "expect_error.h"
#include "grammar/constraint.h"
#include "grammar/pushdown.h"
#include "text/tokenizer.h"

namespace puna {

inline std::shared_ptr<const Grammar> shared(Grammar grammar) { return std::make_shared<const Grammar>(std::move(grammar)); }

class GrammarWalk {
 public:
  explicit GrammarWalk(Grammar grammar) : automaton_(shared(std::move(grammar)), 16) {}

  bool accepts(std::string_view text) { return automaton_.may_end(after(text)); }
  bool begins(std::string_view text) { return after(text) != kNowhere; }  // some text of the grammar begins like this
  Position after(std::string_view text) {
    automaton_.allow_work(10'000'000);
    Position position = automaton_.start();
    for (const char byte : text) position = automaton_.step(position, static_cast<std::uint8_t>(byte));
    return position;
  }
  Pushdown& automaton() { return automaton_; }

 private:
  Pushdown automaton_;
};

// Tokens are given pieces; those in angle brackets, like "<eos>", are special, and <eos> ends a text.
class PieceTokenizer final : public Tokenizer {
 public:
  explicit PieceTokenizer(std::vector<std::string> pieces) : pieces_(std::move(pieces)) {
    kind_ = "pieces";
    size_ = static_cast<int>(pieces_.size());
    std::vector<std::pair<std::string, Token>> specials;
    for (int i = 0; i < size_; ++i) {
      const std::string& piece = pieces_[static_cast<std::size_t>(i)];
      if (piece.size() > 2 && piece.front() == '<' && piece.back() == '>') specials.emplace_back(piece, Token{i});
    }
    set_names(specials, {});
    if (const auto end = special("<eos>")) add_end_token(*end);
  }

 private:
  void encode_text(std::string_view, std::vector<Token>&) const override {}  // tests give tokens
  std::string bytes_of(Token token) const override { return pieces_[static_cast<std::size_t>(id(token))]; }

  std::vector<std::string> pieces_;
};

// Every byte, <eos>, and pieces that cross the borders of JSON's parts and of characters.
inline std::vector<std::string> json_pieces() {
  std::vector<std::string> pieces;
  for (int byte = 0; byte < 256; ++byte) pieces.emplace_back(1, static_cast<char>(byte));
  for (const char* piece :
       {"<eos>", "<bos>", "{\"",      "\":",  "\": ",  "\",",  "\", \"",   "},",   "}}",    "]}",       "[]",      "[[",
        "{}",    "\"\"",  "  ",       "\n  ", "\n\n",  "\r\n", " \"",      "true", "false", "null",     "tr",      "ue",
        "12",    "345",   "0.5",      "-1",   "e1",    "E+",   "the",      " the", "name",  "\"name\"", "value",   "a",
        "aa",    "aaa",   "aaaaaaaa", "é",    "中文",  "\xC3", "\xE4\xB8", "\xAD", "😀",     "\xF0\x9F", "\\u",     "\\n",
        "\\\"",  "\\\\",  "u00",      "D83D", "2024-", "-01",  "T1",       "12:0", "@",     ".com",     "http://", "<eos",
        "eos>",  "0000",  "abc",      "ABC",  "_",     "id",   "\"id\": ", "kind"}) {
    pieces.emplace_back(piece);
  }
  return pieces;
}

}  // namespace puna
