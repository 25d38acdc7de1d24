// SPDX-License-Identifier: Apache-2.0
#include "text/chat.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>

#include "base/error.h"
#include "text/prompt_writer.h"
#include "text/tokenizer.h"

namespace puna {
namespace {

// The pieces are a text and what is joined to it. A SentencePiece tokenizer may put a space in front and leave spaces out.
void encode_joined(const Tokenizer& tokenizer, std::span<const PromptPiece> pieces, AuthoredTokens& out) {
  const std::string text = prompt_text(pieces);
  std::size_t at = 0, piece = 0, piece_end = pieces.front().text.size();
  for (const Token token : tokenizer.encode(text)) {
    std::size_t first = text.size();  // byte of the token
    for (const char byte : pieces.size() == 1 ? std::string() : tokenizer.piece(token)) {
      std::size_t match = at;
      while (match < text.size() && text[match] == ' ' && byte != ' ') ++match;
      if (match == text.size() || text[match] != byte) continue;
      first = std::min(first, match);
      at = match + 1;
    }
    while (piece + 1 < pieces.size() && first < text.size() && first >= piece_end) piece_end += pieces[++piece].text.size();
    out.tokens.push_back(token);
    out.authors.push_back(pieces[piece].author);
  }
}

}  // namespace

std::vector<PromptPiece> render_prompt(const PromptFormat& format, std::span<const Message> messages,
                                       const PromptOptions& options) {
  if (messages.empty()) fail(ErrorKind::kUsage, "prompt", "the conversation is empty, expected at least one message");
  return format.frame == Frame::kLlama2 ? render_llama2(messages, options) : render_llama3(format, messages, options);
}

AuthoredTokens encode_authors(const Tokenizer& tokenizer, std::span<const PromptPiece> pieces) {
  AuthoredTokens out;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    if (!pieces[i].special) {
      std::size_t end = i + 1;
      while (end < pieces.size() && pieces[end].joined) ++end;
      encode_joined(tokenizer, pieces.subspan(i, end - i), out);
      i = end - 1;
      continue;
    }
    const auto token = tokenizer.special(pieces[i].text);
    if (!token) {
      fail(ErrorKind::kUnsupported, "prompt",
           "the tokenizer has no special token {}, which this prompt format needs: choose another format", pieces[i].text);
    }
    out.tokens.push_back(*token);
    out.authors.push_back(pieces[i].author);
  }
  return out;
}

std::vector<Token> encode_prompt(const Tokenizer& tokenizer, std::span<const PromptPiece> pieces) {
  return encode_authors(tokenizer, pieces).tokens;
}

std::string prompt_text(std::span<const PromptPiece> pieces) {
  std::string text;
  for (const PromptPiece& piece : pieces) text += piece.text;
  return text;
}

std::string today() {
  constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  ::localtime_r(&now, &local);
  return fmt::format("{:02} {} {}", local.tm_mday, kMonths[local.tm_mon], local.tm_year + 1900);
}

}  // namespace puna
