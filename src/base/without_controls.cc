// SPDX-License-Identifier: Apache-2.0
#include "base/without_controls.h"

#include <cstddef>
#include <cstdint>

namespace puna {
namespace {

// The length of the UTF-8 character at the front of `text`, and its code point; length 0 where there is none.
struct Character {
  std::size_t length = 0;
  std::uint32_t code = 0;
};

Character front_character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const std::uint8_t lead = byte(0);
  if (lead < 0x80) return {1, lead};
  const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC2 ? 2 : 0;
  if (length == 0 || lead > 0xF4 || text.size() < length) return {};
  std::uint32_t code = lead & (0xFFU >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {};
    code = code << 6 | (byte(i) & 0x3F);
  }
  constexpr std::uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  if (code < kSmallest[length] || code > 0x10FFFF || surrogate) return {};
  return {length, code};
}

}  // namespace

std::string without_controls(std::string_view text) {
  std::string clean;
  clean.reserve(text.size());
  while (!text.empty()) {
    const Character character = front_character(text);
    const std::size_t length = character.length == 0 ? 1 : character.length;
    const std::uint32_t code = character.code;
    if (character.length == 0 || (code >= 0x80 && code <= 0x9F)) {
      clean += "\xEF\xBF\xBD";
    } else if (code == 0x7F) {
      clean += "\xE2\x90\xA1";
    } else if (code < 0x20 && code != '\n' && code != '\t') {
      clean += {'\xE2', '\x90', static_cast<char>(0x80 + code)};
    } else {
      clean += text.substr(0, length);
    }
    text.remove_prefix(length);
  }
  return clean;
}

}  // namespace puna
