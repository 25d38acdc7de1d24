// SPDX-License-Identifier: Apache-2.0
// tokenizer.json from outside. What loads must give back the bytes it was given.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/error.h"
#include "text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    const auto tokenizer = puna::tokenizer_from_json(bytes, "fuzz");
    const std::string_view text = bytes.substr(0, 400);
    if (tokenizer->decode(tokenizer->encode(text)) != text) std::abort();
    if (tokenizer->decode(tokenizer->encode_with_specials(text), true) != text) std::abort();
  } catch (const puna::Error&) {
  }
  return 0;
}
