// SPDX-License-Identifier: Apache-2.0
// Log-probabilities in OpenAI's two shapes.
#pragma once

#include <span>

#include "infer/generation.h"
#include "server/served_model.h"

namespace puna {

// {"content": [{"token", "logprob", "bytes", "top_logprobs": […]}], "refusal": null}
Json chat_logprobs(std::span<const SampledToken> tokens, const ServedModel& model);
// {"tokens", "token_logprobs", "top_logprobs", "text_offset"}: `offset` is where the first token's text begins.
Json completion_logprobs(std::span<const SampledToken> tokens, const ServedModel& model, std::size_t offset);

}  // namespace puna
