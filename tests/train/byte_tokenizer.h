// SPDX-License-Identifier: Apache-2.0
// A tokenizer whose ids are bytes, with Llama 3's special tokens behind them: tests can write down what a text becomes.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/tokenizer.h"

namespace puna {

class ByteTokenizer final : public Tokenizer {
 public:
  explicit ByteTokenizer(bool adds_bos = true) {
    kind_ = "bytes";
    std::vector<std::pair<std::string, Token>> specials;
    for (const char* name : {"<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
                             "<|eom_id|>", "<|python_tag|>"}) {
      specials.emplace_back(name, Token{256 + static_cast<int>(specials.size())});
    }
    size_ = 256 + static_cast<int>(specials.size());
    set_names(std::move(specials), {});
    set_bos(Token{256}, adds_bos);
  }

 private:
  void encode_text(std::string_view text, std::vector<Token>& tokens) const override {
    for (const char c : text) tokens.push_back(Token{static_cast<unsigned char>(c)});
  }
  std::string bytes_of(Token token) const override { return std::string(1, static_cast<char>(id(token))); }
};

}  // namespace puna
