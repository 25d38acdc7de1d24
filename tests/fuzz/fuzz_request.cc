// SPDX-License-Identifier: Apache-2.0
// Bodies of HTTP requests: what is read as messages and tools was JSON with each key once, and what is refused is refused with a
// status that says whose fault it is.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <string_view>

#include "base/error.h"
#include "server/anthropic_prompt.h"
#include "server/chat_prompt.h"
#include "server/request_json.h"
#include "server/responses_input.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

// What is refused is refused with a status that says whose fault it is.
void read(const std::function<void()>& act) {
  try {
    act();
  } catch (const puna::ApiError& error) {
    require(error.status() >= 400 && error.status() < 500);
  } catch (const puna::Error& error) {
    require(error.kind() == puna::ErrorKind::kBadInput);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  puna::Json body;
  read([&] { body = puna::parse_request(text); });
  if (!body.is_object()) return 0;
  require(puna::parse_request(puna::dump_json(body)) == body);
  read([&] {
    if (body.contains("messages") && body.at("messages").is_array()) puna::read_messages(body);
    if (body.contains("tools") && body.at("tools").is_array()) puna::read_tools(body);
  });
  read([&] {
    puna::check_fields(body, puna::kAnthropicPromptFields);
    puna::read_messages(puna::read_anthropic(body).chat);
  });
  read([&] {
    puna::check_fields(body, puna::kResponsesFields);
    puna::read_messages(puna::chat_of_responses(body));
  });
  return 0;
}
