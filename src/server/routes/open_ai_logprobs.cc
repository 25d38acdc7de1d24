// SPDX-License-Identifier: Apache-2.0
#include "server/routes/open_ai_logprobs.h"

#include <algorithm>
#include <cmath>

namespace puna {
namespace {

constexpr double kLeast = -9999;  // JSON has no infinity

// The token's bytes as text, with what is no UTF-8 replaced, and as numbers.
Json described(Token token, double logprob, const Tokenizer& tokenizer) {
  const std::string piece = tokenizer.piece(token, true);
  Json bytes = Json::array();
  for (const char byte : piece) bytes.push_back(static_cast<unsigned char>(byte));
  return {{"token", piece}, {"logprob", std::max(kLeast, logprob)}, {"bytes", std::move(bytes)}};
}

}  // namespace

Json chat_logprobs(std::span<const SampledToken> tokens, const ServedModel& model) {
  const Tokenizer& tokenizer = model.checkpoint().need_tokenizer();
  Json content = Json::array();
  for (const SampledToken& sampled : tokens) {
    Json one = described(sampled.token, sampled.logprob, tokenizer);
    Json top = Json::array();
    for (const auto& [token, logprob] : sampled.top) top.push_back(described(token, logprob, tokenizer));
    one["top_logprobs"] = std::move(top);
    content.push_back(std::move(one));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

Json completion_logprobs(std::span<const SampledToken> tokens, const ServedModel& model, std::size_t& offset) {
  const Tokenizer& tokenizer = model.checkpoint().need_tokenizer();
  Json texts = Json::array(), logprobs = Json::array(), tops = Json::array(), offsets = Json::array();
  for (const SampledToken& sampled : tokens) {
    const std::string piece = tokenizer.piece(sampled.token, true);
    texts.push_back(piece);
    logprobs.push_back(std::isnan(sampled.logprob) ? Json() : Json(std::max(kLeast, sampled.logprob)));
    Json top = Json::object();
    for (const auto& [token, logprob] : sampled.top) top[tokenizer.piece(token, true)] = std::max(kLeast, logprob);
    tops.push_back(std::isnan(sampled.logprob) ? Json() : std::move(top));
    offsets.push_back(offset);
    offset += characters(tokenizer.piece(sampled.token, false));  // special tokens are not in the text
  }
  return {{"tokens", std::move(texts)},
          {"token_logprobs", std::move(logprobs)},
          {"top_logprobs", std::move(tops)},
          {"text_offset", std::move(offsets)}};
}

std::size_t characters(std::string_view text) {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char byte) { return (static_cast<unsigned char>(byte) & 0xC0U) != 0x80; }));
}

}  // namespace puna
