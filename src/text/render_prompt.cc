// SPDX-License-Identifier: Apache-2.0
#include "text/chat.h"

#include "base/error.h"
#include "text/prompt_writer.h"
#include "text/tokenizer.h"

namespace puna {

std::vector<PromptPiece> render_prompt(const PromptFormat& format, std::span<const Message> messages,
                                       const PromptOptions& options) {
  if (messages.empty()) fail(ErrorKind::kUsage, "prompt", "the conversation is empty, expected at least one message");
  return format.frame == Frame::kLlama2 ? render_llama2(messages, options) : render_llama3(format, messages, options);
}

std::vector<Token> encode_prompt(const Tokenizer& tokenizer, std::span<const PromptPiece> pieces) {
  std::vector<Token> tokens;
  for (const PromptPiece& piece : pieces) {
    if (!piece.special) {
      const std::vector<Token> text = tokenizer.encode(piece.text);
      tokens.insert(tokens.end(), text.begin(), text.end());
      continue;
    }
    const auto token = tokenizer.special(piece.text);
    if (!token) {
      fail(ErrorKind::kUnsupported, "prompt",
           "the tokenizer has no special token {}, which this prompt format needs: choose another format", piece.text);
    }
    tokens.push_back(*token);
  }
  return tokens;
}

std::string prompt_text(std::span<const PromptPiece> pieces) {
  std::string text;
  for (const PromptPiece& piece : pieces) text += piece.text;
  return text;
}

}  // namespace puna
