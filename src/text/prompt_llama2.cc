// SPDX-License-Identifier: Apache-2.0
// Llama 2's chat frame (generation.py of the llama repository): every pair of question and answer is a sequence of its own,
// <s>[INST] <<SYS>>\n{system}\n<</SYS>>\n\n{user} [/INST] {assistant} </s>, and "[INST]" is plain text, not a token.
#include "base/error.h"
#include "text/prompt_writer.h"
#include "text/unicode.h"

namespace puna {

std::vector<PromptPiece> render_llama2(std::span<const Message> messages, const PromptOptions& options) {
  if (!options.tools.empty() || !options.builtin_tools.empty()) {
    fail(ErrorKind::kUsage, "prompt",
         "Llama 2's format has no place for tools: use a Llama 3.1 or later model, or leave the tools out");
  }
  PromptWriter writer(true);
  std::string system;
  int first = 0;  // which message messages[0] is
  if (messages.front().role == Role::kSystem) {
    system = "<<SYS>>\n" + messages.front().content + "\n<</SYS>>\n\n";
    messages = messages.subspan(1);
    first = 1;
  }
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const Role expected = i % 2 == 0 ? Role::kUser : Role::kAssistant;
    if (messages[i].role != expected || !messages[i].tool_calls.empty()) {
      fail(ErrorKind::kUsage, "prompt",
           "message {} does not alternate user and assistant, as Llama 2's format requires after one system message", i + 1);
    }
    if (expected == Role::kUser) {
      const std::string content = i == 0 ? system + messages[i].content : messages[i].content;
      writer.special("<s>");
      writer.text("[INST] ");
      writer.text(strip_space(content));
      writer.text(" [/INST]");
    } else {
      writer.set_author(first + static_cast<int>(i));
      writer.text(" ");
      writer.text(strip_space(messages[i].content));
      writer.text(" ");
      writer.special("</s>");
      writer.set_author(-1);
    }
  }
  if (messages.empty())
    fail(ErrorKind::kUsage, "prompt", "there is no user message, which Llama 2's format needs to hold the system message");
  return writer.take();
}

}  // namespace puna
