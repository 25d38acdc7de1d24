// SPDX-License-Identifier: Apache-2.0
// A request in the shape of OpenAI's Responses API, checked field by field, brought into the shape of its chat API, which
// chat_prompt.h and routes/open_ai_fields.h read. Nothing is kept between requests: what refers to an earlier answer is refused,
// and so is "store": true, which promises that it can be had again; what the server would have to run is refused too.
#pragma once

#include <array>

#include "base/json.h"
#include "server/request_json.h"

namespace puna {

inline constexpr std::array<FieldRule, 30> kResponsesFields = {{{"model", FieldKind::kText, 0, 512},
                                                                {"input", FieldKind::kTextOrList, 0, 0, true},
                                                                {"instructions", FieldKind::kText, 0, 1 << 19},
                                                                {"text", FieldKind::kObject},
                                                                {"tools", FieldKind::kList, 0, 256},
                                                                {"tool_choice", FieldKind::kTextOrObject},
                                                                {"parallel_tool_calls", FieldKind::kBoolean},
                                                                {"max_output_tokens", FieldKind::kInteger, 1, 1e9},
                                                                {"max_tool_calls", FieldKind::kInteger, 1, 1e9},
                                                                {"temperature", FieldKind::kNumber, 0, 2},
                                                                {"top_p", FieldKind::kNumber, 1e-9, 1},
                                                                {"top_logprobs", FieldKind::kInteger, 0, 20},
                                                                {"stream", FieldKind::kBoolean},
                                                                {"stream_options", FieldKind::kObject},
                                                                {"include", FieldKind::kList, 0, 16},
                                                                {"metadata", FieldKind::kObject},
                                                                {"truncation", FieldKind::kText, 1, 32},
                                                                {"reasoning", FieldKind::kObject},
                                                                {"store", FieldKind::kBoolean},
                                                                {"user", FieldKind::kText, 0, 4096},
                                                                {"safety_identifier", FieldKind::kText, 0, 4096},
                                                                {"prompt_cache_key", FieldKind::kText, 0, 4096},
                                                                {"prompt_cache_retention", FieldKind::kText, 0, 64},
                                                                {"service_tier", FieldKind::kText, 0, 64},
                                                                {"background", FieldKind::kBoolean},
                                                                {"previous_response_id", FieldKind::kText},
                                                                {"conversation", FieldKind::kTextOrObject},
                                                                {"prompt", FieldKind::kObject},
                                                                {"context_management", FieldKind::kList},
                                                                {"moderation", FieldKind::kObject}}};

// {"messages", "tools", "tool_choice", "response_format", …}. Of a body whose own fields were checked. Throws ApiError naming
// "input[3].content" for what is not as the API has it.
Json chat_of_responses(const Json& body);
// Whether "include" or "top_logprobs" ask for log-probabilities. Throws ApiError for what else is asked for.
bool wants_logprobs(const Json& body);

}  // namespace puna
