// SPDX-License-Identifier: Apache-2.0
// Bodies of HTTP requests: what is read as messages and tools was JSON with each key once, and what is refused is refused with a
// status that says whose fault it is.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "server/chat_prompt.h"
#include "server/request_json.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const puna::Json body = puna::parse_request(text);
    require(body.is_object());
    require(puna::parse_request(puna::dump_json(body)) == body);
    if (body.contains("messages") && body.at("messages").is_array()) puna::read_messages(body);
    if (body.contains("tools") && body.at("tools").is_array()) puna::read_tools(body);
  } catch (const puna::ApiError& error) {
    require(error.status() >= 400 && error.status() < 500);
  }
  return 0;
}
