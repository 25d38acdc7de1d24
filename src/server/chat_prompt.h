// SPDX-License-Identifier: Apache-2.0
// A chat request's messages and tools, checked field by field, and the prompt they become. In OpenAI's shape; the other families
// bring theirs into it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "server/answering.h"
#include "server/services.h"
#include "text/chat.h"

namespace puna {

// The list in the body's `field`. Throws ApiError naming "messages[3].content" for what is not as the API has it.
std::vector<Message> read_messages(const Json& body, const char* field = "messages");
// "tools" and "tool_choice": those that may be called; none for "none".
std::vector<Tool> read_tools(const Json& body);

// Another API's tools as chat has them: `function_of` makes one tool's "function", or throws. Throws ApiError for what is no
// object.
Json chat_tools(const Json& tools, const std::function<Json(const Json& tool, const std::string& place)>& function_of);

// The prompt, the format its answer is read in, and the shape that tools or "response_format" give the answer: calls follow their
// schemas, which a function's "strict": false waives, and so does a schema that cannot be followed where no "strict" is true. Fills
// in what AnswerRequest has of them.
void prepare_chat(const Services& services, const Json& body, const std::vector<Message>& messages, AnswerRequest& request);

}  // namespace puna
