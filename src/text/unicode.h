// SPDX-License-Identifier: Apache-2.0
// Characters as the tokenizers see them: UTF-8 validity, and the few classes that the split patterns ask about.
// Classes are Unicode's (ICU's tables): letter = \p{L}, number = \p{N}, space = White_Space, which is what Rust's and tiktoken's
// \s means. PCRE2's \s also holds U+180E, Python's str.isspace() also U+001C..U+001F: neither is a space here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace puna {

enum class CharClass : std::uint8_t { kOther = 0, kLetter, kNumber, kSpace, kNewline };  // kNewline: \r and \n only

// One class for every code point: [0x110000]. Built on first use (under a millisecond), shared by all threads.
const CharClass* char_classes();

// A character at the start of a text. `bytes` is 0 where the text is empty or does not start with a valid sequence.
struct DecodedChar {
  char32_t code = 0;
  int bytes = 0;
};
DecodedChar decode_utf8(std::string_view text);

// Length in bytes of the longest prefix that is valid UTF-8 (no surrogates, no overlong forms, nothing above U+10FFFF).
std::size_t valid_utf8_prefix(std::string_view text);

void append_utf8(char32_t code, std::string& out);

// Without the white space at both ends, as Python's str.strip() (and so Jinja's `trim`) defines it.
std::string_view strip_space(std::string_view text);

}  // namespace puna
