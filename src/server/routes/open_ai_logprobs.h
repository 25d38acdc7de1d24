// SPDX-License-Identifier: Apache-2.0
// Log-probabilities in OpenAI's two shapes.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "infer/generation.h"
#include "server/served_model.h"

namespace puna {

// {"content": [{"token", "logprob", "bytes", "top_logprobs": […]}], "refusal": null}
Json chat_logprobs(std::span<const SampledToken> tokens, const ServedModel& model);
// {"tokens", "token_logprobs", "top_logprobs", "text_offset"}: `offset` is where the first token's text begins, in
// characters, and becomes where the next one's does.
Json completion_logprobs(std::span<const SampledToken> tokens, const ServedModel& model, std::size_t& offset);
// How many characters begin in the text, which may hold parts of some.
std::size_t characters(std::string_view text);

}  // namespace puna
