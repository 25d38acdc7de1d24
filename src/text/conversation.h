// SPDX-License-Identifier: Apache-2.0
// Conversations and tools as JSON files, in the shape of OpenAI's chat API: what --messages, --tools, a chat's /save and /load,
// and sets of training data read and write.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "text/chat.h"

namespace puna {

// A list of messages, or {"messages": [...]}: role, content (text, or a list of text parts), tool_calls, tool_call_id.
std::vector<Message> messages_from_json(const Json& value, const std::string& where);
Json message_to_json(const Message& message);
Json messages_to_json(std::span<const Message> messages);

// A list of {"type": "function", "function": {name, description, parameters}}, or of the inner objects.
std::vector<Tool> tools_from_json(const Json& value, const std::string& where);
// [{"name": …, "arguments": {…}}]
Json tool_calls_to_json(std::span<const ToolCall> calls);

}  // namespace puna
