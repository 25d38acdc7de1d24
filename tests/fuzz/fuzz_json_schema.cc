// SPDX-License-Identifier: Apache-2.0
// JSON schemas from outside, and a text written under each: what ends is JSON.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "grammar/json_schema.h"
#include "write_text.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    const puna::Json schema = puna::parse_json(bytes, "schema");
    const auto text = puna::write_text(puna::json_schema_grammar(schema, "schema"), bytes);
    if (text && !puna::Json::accept(*text)) std::abort();
  } catch (const puna::Error& error) {
    if (error.kind() == puna::ErrorKind::kInternal) throw;
  }
  return 0;
}
