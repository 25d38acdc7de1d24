// SPDX-License-Identifier: Apache-2.0
// Collects the pieces of a prompt. Meta's ChatFormat encodes a header's line ends and the content apart, Hugging Face's templates
// as one text; where content begins with line ends the ids differ, so a writer either joins neighbouring texts or keeps them apart.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "text/chat.h"

namespace puna {

class PromptWriter {
 public:
  explicit PromptWriter(bool joins_texts) : joins_texts_(joins_texts) {}

  void special(std::string_view name) { pieces_.push_back({true, std::string(name)}); }
  void text(std::string_view text) {
    if (text.empty()) return;
    if (joins_texts_ && !pieces_.empty() && !pieces_.back().special) {
      pieces_.back().text += text;
    } else {
      pieces_.push_back({false, std::string(text)});
    }
  }
  std::vector<PromptPiece> take() { return std::move(pieces_); }

 private:
  bool joins_texts_;
  std::vector<PromptPiece> pieces_;
};

// prompt_llama3.cc, prompt_llama2.cc
std::vector<PromptPiece> render_llama3(const PromptFormat& format, std::span<const Message> messages, const PromptOptions& options);
std::vector<PromptPiece> render_llama2(std::span<const Message> messages, const PromptOptions& options);

}  // namespace puna
