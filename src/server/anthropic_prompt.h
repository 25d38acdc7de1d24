// SPDX-License-Identifier: Apache-2.0
// A request in the shape of Anthropic's Messages API, checked field by field, brought into OpenAI's shape, which chat_prompt.h and
// routes/open_ai_fields.h read. What Llama models have no place for is refused: pictures, documents, thinking, tools that the
// server runs.
#pragma once

#include <array>
#include <string>

#include "base/json.h"
#include "server/request_json.h"

namespace puna {

// What says what the model reads, and is all that counting takes.
inline constexpr std::array<FieldRule, 7> kAnthropicPromptFields = {{{"model", FieldKind::kText, 0, 512},
                                                                     {"messages", FieldKind::kList, 1, 10'000, true},
                                                                     {"system", FieldKind::kTextOrList},
                                                                     {"tools", FieldKind::kList, 0, 256, false, false},
                                                                     {"tool_choice", FieldKind::kObject, 0, 0, false, false},
                                                                     {"thinking", FieldKind::kObject},
                                                                     {"output_config", FieldKind::kObject}}};
// What says how it is answered.
inline constexpr std::array<FieldRule, 9> kAnthropicWritingFields = {{{"max_tokens", FieldKind::kInteger, 1, 1e9, true},
                                                                      {"temperature", FieldKind::kNumber, 0, 1},
                                                                      {"top_p", FieldKind::kNumber, 1e-9, 1},
                                                                      {"top_k", FieldKind::kInteger, 0, 1e9},
                                                                      {"stop_sequences", FieldKind::kList, 0, 16, false, false},
                                                                      {"stream", FieldKind::kBoolean, 0, 0, false, false},
                                                                      {"metadata", FieldKind::kObject},
                                                                      {"service_tier", FieldKind::kText, 0, 64},
                                                                      {"inference_geo", FieldKind::kText, 0, 64}}};

struct AnthropicRequest {
  Json chat;            // "messages", "tools", "tool_choice", "stop", …
  std::string prefill;  // the text of a last message that is the assistant's: the answer goes on from there
};

// Of a body whose own fields were checked. Throws ApiError naming "messages[3].content[0]" for what is not as the API has it.
AnthropicRequest read_anthropic(const Json& body);

}  // namespace puna
