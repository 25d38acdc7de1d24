// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer.h"

#include <algorithm>
#include <array>

#include "base/error.h"

namespace puna {
namespace {

constexpr std::array<std::string_view, 2> kBeginNames = {"<|begin_of_text|>", "<s>"};
constexpr std::array<std::string_view, 4> kEndNames = {"<|end_of_text|>", "<|eom_id|>", "<|eot_id|>", "</s>"};

std::vector<std::pair<std::string, Token>> joined(const std::vector<std::pair<std::string, Token>>& a,
                                                  const std::vector<std::pair<std::string, Token>>& b) {
  std::vector<std::pair<std::string, Token>> all = a;
  all.insert(all.end(), b.begin(), b.end());
  return all;
}

}  // namespace

void Tokenizer::set_names(std::vector<std::pair<std::string, Token>> specials, std::vector<std::pair<std::string, Token>> added) {
  specials_ = std::move(specials);
  std::stable_sort(specials_.begin(), specials_.end(), [](const auto& a, const auto& b) { return id(a.second) < id(b.second); });
  special_mask_.assign(static_cast<std::size_t>(size_), false);
  for (const auto& [name, token] : specials_) special_mask_[static_cast<std::size_t>(id(token))] = true;
  special_names_ = NameMatcher(specials_);
  all_names_ = NameMatcher(joined(specials_, added));
  added_names_ = NameMatcher(added);
  added_ = std::move(added);
  for (const std::string_view name : kBeginNames) {
    if (!bos_) bos_ = special(name);
  }
  for (const std::string_view name : kEndNames) {
    if (const auto token = special(name)) add_end_token(*token);
  }
}

std::vector<Token> Tokenizer::encode(std::string_view text) const {
  std::vector<Token> tokens;
  tokens.reserve(text.size() / 4 + 8);
  encode_between(added_names_, text, tokens);
  return tokens;
}

std::vector<Token> Tokenizer::encode_with_specials(std::string_view text) const {
  std::vector<Token> tokens;
  tokens.reserve(text.size() / 4 + 8);
  encode_between(all_names_, text, tokens);
  return tokens;
}

std::vector<Token> Tokenizer::encode_continuation(std::string_view, std::string_view text) const { return encode(text); }

void Tokenizer::encode_between(const NameMatcher& names, std::string_view text, std::vector<Token>& tokens) const {
  std::size_t at = 0;
  while (const auto match = names.next(text, at)) {
    if (match->begin > at) encode_text(text.substr(at, match->begin - at), tokens);
    tokens.push_back(match->token);
    at = match->begin + match->size;
  }
  if (at < text.size()) encode_text(text.substr(at), tokens);
}

void Tokenizer::check(Token token) const {
  if (contains(token)) return;
  fail(ErrorKind::kUsage, "tokenizer", "token {} is outside the vocabulary, expected 0 to {}: it comes from another model",
       id(token), size_ - 1);
}

std::string Tokenizer::piece(Token token, bool with_specials) const {
  check(token);
  if (!special_mask_[static_cast<std::size_t>(id(token))]) return bytes_of(token);
  if (!with_specials) return {};
  const auto at = std::lower_bound(specials_.begin(), specials_.end(), token,
                                   [](const auto& entry, Token t) { return id(entry.second) < id(t); });
  return at->first;
}

std::string Tokenizer::decode(std::span<const Token> tokens, bool with_specials) const {
  std::string text;
  bool first = strips_first_space();
  for (const Token token : tokens) {
    const std::string bytes = piece(token, with_specials);
    const bool ordinary = !is_special(token);
    text += first && ordinary && bytes.starts_with(' ') ? std::string_view(bytes).substr(1) : std::string_view(bytes);
    if (ordinary) first = false;
  }
  return text;
}

bool Tokenizer::is_special(Token token) const { return contains(token) && special_mask_[static_cast<std::size_t>(id(token))]; }

std::optional<Token> Tokenizer::special(std::string_view name) const { return special_names_.find(name); }

void Tokenizer::add_end_token(Token token) {
  const auto at = std::lower_bound(end_tokens_.begin(), end_tokens_.end(), token, [](Token a, Token b) { return id(a) < id(b); });
  if (at == end_tokens_.end() || *at != token) end_tokens_.insert(at, token);
}

}  // namespace puna
