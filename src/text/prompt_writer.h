// SPDX-License-Identifier: Apache-2.0
// Collects the pieces of a prompt. Meta's ChatFormat encodes a header's line ends and the content apart, Hugging Face's templates
// as one text; where content begins with line ends the ids differ, so a writer either joins neighbouring texts or keeps them apart.
// Texts of different authors stay pieces of their own, marked as joined.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "text/chat.h"

namespace puna {

class PromptWriter {
 public:
  explicit PromptWriter(bool joins_texts) : joins_texts_(joins_texts) {}

  // Of what is written from now on: PromptPiece::author.
  void set_author(int author) { author_ = author; }

  void special(std::string_view name) { pieces_.push_back({true, std::string(name), author_, false}); }
  void text(std::string_view text) {
    if (text.empty()) return;
    const bool joined = joins_texts_ && !pieces_.empty() && !pieces_.back().special;
    if (joined && pieces_.back().author == author_) {
      pieces_.back().text += text;
    } else {
      pieces_.push_back({false, std::string(text), author_, joined});
    }
  }
  std::vector<PromptPiece> take() { return std::move(pieces_); }

 private:
  bool joins_texts_;
  int author_ = -1;
  std::vector<PromptPiece> pieces_;
};

// prompt_llama3.cc, prompt_llama2.cc
std::vector<PromptPiece> render_llama3(const PromptFormat& format, std::span<const Message> messages, const PromptOptions& options);
std::vector<PromptPiece> render_llama2(std::span<const Message> messages, const PromptOptions& options);

}  // namespace puna
