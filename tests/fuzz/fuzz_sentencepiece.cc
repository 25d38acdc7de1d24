// SPDX-License-Identifier: Apache-2.0
// SentencePiece models from outside, and texts through whatever loads.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    const auto tokenizer = puna::tokenizer_from_sentencepiece(bytes, "fuzz");
    for (const std::string_view text :
         {bytes.substr(0, 300), bytes.substr(size - size / 4), std::string_view("the quick  brown fox ")}) {
      tokenizer->decode(tokenizer->encode(text));
      tokenizer->decode(tokenizer->encode_with_specials(text), true);
    }
  } catch (const puna::Error&) {
  }
  return 0;
}
