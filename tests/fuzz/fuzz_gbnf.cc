// SPDX-License-Identifier: Apache-2.0
// Grammars from outside, and a text written under each: as long as it goes on, something may follow, or it may end.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "grammar/gbnf.h"
#include "write_text.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    puna::write_text(puna::gbnf_grammar(bytes, "grammar"), bytes);
  } catch (const puna::Error& error) {
    if (error.kind() == puna::ErrorKind::kInternal) throw;
  }
  return 0;
}
