// SPDX-License-Identifier: Apache-2.0
#include "cli/answer.h"

#include <fmt/format.h>

#include "cli/input.h"

namespace puna {
namespace {

double rate(std::size_t tokens, double seconds) { return seconds > 0 ? static_cast<double>(tokens) / seconds : 0; }

Json logprobs_to_json(const std::vector<SampledToken>& sampled, const Tokenizer* tokenizer) {
  const auto one = [&](Token token, double logprob) {
    Json value = {{"token", id(token)}, {"logprob", logprob}};
    if (tokenizer != nullptr && tokenizer->contains(token)) value["piece"] = tokenizer->piece(token, true);
    return value;
  };
  Json list = Json::array();
  for (const SampledToken& token : sampled) {
    Json value = one(token.token, token.logprob);
    value["top"] = Json::array();
    for (const auto& [other, logprob] : token.top) value["top"].push_back(one(other, logprob));
    list.push_back(std::move(value));
  }
  return list;
}

}  // namespace

Json generation_to_json(const Generation& generation, const Tokenizer* tokenizer) {
  Json value = {{"tokens", tokens_to_json(generation.tokens)}};
  if (tokenizer != nullptr) value["text"] = generation.text;
  value["finish_reason"] = name(generation.reason);
  value["prompt_tokens"] = generation.prompt_tokens;
  value["cached_tokens"] = generation.cached_tokens;
  value["prefill_seconds"] = generation.prefill_seconds;
  value["decode_seconds"] = generation.decode_seconds;
  if (generation.drafted > 0) value["drafted"] = generation.drafted, value["accepted"] = generation.accepted;
  if (!generation.logprobs.empty()) value["logprobs"] = logprobs_to_json(generation.logprobs, tokenizer);
  return value;
}

std::string stats_line(const Generation& generation) {
  const auto fresh = static_cast<std::size_t>(generation.prompt_tokens - generation.cached_tokens);
  const std::string drafts =
      generation.drafted > 0 ? fmt::format(" ({} of {} proposed tokens taken)", generation.accepted, generation.drafted) : "";
  return fmt::format("prompt {} tokens ({} from the cache), {:.1f} tokens/s; answer {} tokens, {:.1f} tokens/s{}; end: {}",
                     generation.prompt_tokens, generation.cached_tokens, rate(fresh, generation.prefill_seconds),
                     generation.tokens.size(), rate(generation.tokens.size(), generation.decode_seconds), drafts,
                     name(generation.reason));
}

}  // namespace puna
