// SPDX-License-Identifier: Apache-2.0
// Answers of a model and templates of a file, both from outside. What has no call in it must stay as it is.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "text/chat.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  static const std::vector<puna::Tool> tools = {{"f", "", puna::Json::object()}, {"get_weather", "", puna::Json::object()}};
  static const std::vector<std::string> builtin_tools = {"brave_search", "code_interpreter"};
  static const auto format = *puna::prompt_format_from_name("llama3.1");
  for (int known = 0; known < 4; ++known) {
    const auto some = (known & 1) != 0 ? std::span<const puna::Tool>(tools) : std::span<const puna::Tool>();
    const auto builtin = (known & 2) != 0 ? std::span<const std::string>(builtin_tools) : std::span<const std::string>();
    const puna::Message message = puna::parse_assistant(format, bytes, some, builtin);
    if (message.tool_calls.empty() && bytes.find(message.content) == std::string_view::npos) std::abort();
    for (const puna::ToolCall& call : message.tool_calls) {
      if (call.name.empty() || !call.arguments.is_object()) std::abort();
    }
    // What was read can be written again in every format that holds tools.
    if (message.tool_calls.empty()) continue;
    for (const std::string_view name : {"llama3.1", "llama3.1-meta", "llama3.1-function", "llama3.2-pythonic"}) {
      puna::render_prompt(*puna::prompt_format_from_name(name), std::vector<puna::Message>{message}, {});
    }
  }
  puna::recognise_template(bytes);
  return 0;
}
