// SPDX-License-Identifier: Apache-2.0
// What the four tool dialects put into a prompt: the text that shows the tools, and a call as the model itself writes it.
// The sentences are the published ones (Hugging Face's chat templates; llama-models' system_prompts.py and tool_utils.py).
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "text/chat.h"

namespace puna {

// The text that shows `tools` (not empty) in this format. Where it goes is decided by the frame.
std::string tools_text(const PromptFormat& format, std::span<const Tool> tools);

// "Environment: ipython" and "Tools: …" of the system message, as Hugging Face and Meta lay them out.
std::string environment_text(const PromptFormat& format, std::span<const Tool> tools, std::span<const std::string> builtin_tools);

// A past call: its text, whether <|python_tag|> stands before it, and whether <|eom_id|> ends the message.
struct WrittenCall {
  bool python_tag = false;
  std::string text;
  bool end_of_message = false;
};
WrittenCall write_call(const PromptFormat& format, const ToolCall& call, std::span<const std::string> builtin_tools);
// All calls of one message in the pythonic dialect: [f(a="x"), g()].
std::string write_pythonic_calls(std::span<const ToolCall> calls);

bool is_builtin_tool(std::string_view name, std::span<const std::string> builtin_tools);

}  // namespace puna
