// SPDX-License-Identifier: Apache-2.0
// A text written under a grammar, token by token out of a vocabulary of all bytes, where some bytes choose the tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "grammar/constraint.h"
#include "text/tokenizer.h"

namespace puna {

class AllBytes final : public Tokenizer {
 public:
  AllBytes() {
    size_ = kPieces + 1;
    set_names({{"<|end_of_text|>", Token{kPieces}}}, {});
  }

 private:
  static constexpr int kPieces = 258;
  void encode_text(std::string_view, std::vector<Token>&) const override {}
  std::string bytes_of(Token token) const override {
    return id(token) < 256 ? std::string(1, static_cast<char>(id(token))) : id(token) == 256 ? "ab" : "\"}";
  }
};

// The text where it came to its end within some tokens. Aborts where neither a token nor the end is allowed.
inline std::optional<std::string> write_text(Grammar grammar, std::string_view choices) {
  static const AllBytes tokenizer;
  static const auto vocabulary = std::make_shared<const VocabularyIndex>(tokenizer);
  Constraint constraint(std::make_shared<const Grammar>(std::move(grammar)), vocabulary);
  std::string text;
  for (std::size_t step = 0; step < 200; ++step) {
    std::vector<Token> allowed;
    const auto mask = constraint.mask();
    for (int token = 0; token < tokenizer.size(); ++token) {
      if ((mask[static_cast<std::size_t>(token) / 32] >> (token % 32) & 1u) != 0) allowed.push_back(Token{token});
    }
    if (allowed.empty()) std::abort();
    const auto choice = static_cast<unsigned char>(choices.empty() ? step : static_cast<std::size_t>(choices[step * 7 % choices.size()]));
    const Token token = allowed[choice % allowed.size()];
    if (!constraint.advance(token)) std::abort();
    if (constraint.ended()) return text;
    text += tokenizer.piece(token);
  }
  return std::nullopt;
}

}  // namespace puna
