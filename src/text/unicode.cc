// SPDX-License-Identifier: Apache-2.0
#include "text/unicode.h"

#include <unicode/uchar.h>

#include <cstring>
#include <vector>

namespace puna {
namespace {

constexpr std::size_t kCodePoints = 0x110000;

CharClass class_of(UCharCategory category) {
  const std::uint32_t mask = U_MASK(category);
  if ((mask & U_GC_L_MASK) != 0) return CharClass::kLetter;
  if ((mask & U_GC_N_MASK) != 0) return CharClass::kNumber;
  return CharClass::kOther;
}

// Whole ranges of one category at a time: a call per code point would take ten milliseconds.
UBool fill_range(const void* context, UChar32 begin, UChar32 end, UCharCategory category) {
  auto* classes = static_cast<CharClass*>(const_cast<void*>(context));
  const CharClass value = class_of(category);
  if (value != CharClass::kOther) std::memset(classes + begin, static_cast<int>(value), static_cast<std::size_t>(end - begin));
  return 1;
}

std::vector<CharClass> build_classes() {
  std::vector<CharClass> classes(kCodePoints, CharClass::kOther);  // [0x110000]
  u_enumCharTypes(fill_range, classes.data());
  for (UChar32 code = 0; code <= 0x3000; ++code) {  // the last White_Space character is U+3000
    if (u_isUWhiteSpace(code)) classes[static_cast<std::size_t>(code)] = CharClass::kSpace;
  }
  classes['\r'] = CharClass::kNewline;
  classes['\n'] = CharClass::kNewline;
  return classes;
}

bool is_continuation(unsigned char byte) { return (byte & 0xC0) == 0x80; }

bool is_python_space(char32_t code) {
  const CharClass value = char_classes()[code];
  return value == CharClass::kSpace || value == CharClass::kNewline || (code >= 0x1C && code <= 0x1F);
}

}  // namespace

const CharClass* char_classes() {
  static const std::vector<CharClass> classes = build_classes();
  return classes.data();
}

DecodedChar decode_utf8(std::string_view text) {
  if (text.empty()) return {};
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
  const unsigned char lead = bytes[0];
  if (lead < 0x80) return {lead, 1};
  const int length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < static_cast<std::size_t>(length)) return {};
  char32_t code = lead & (0x7F >> length);
  for (int i = 1; i < length; ++i) {
    if (!is_continuation(bytes[i])) return {};
    code = (code << 6) | (bytes[i] & 0x3F);
  }
  const bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  if (overlong || surrogate || code > 0x10FFFF) return {};
  return {code, length};
}

std::size_t valid_utf8_prefix(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    std::uint64_t word = 0;
    if (at + sizeof(word) <= text.size()) {
      std::memcpy(&word, text.data() + at, sizeof(word));
      if ((word & 0x8080808080808080u) == 0) {
        at += sizeof(word);
        continue;
      }
    }
    const DecodedChar next = decode_utf8(text.substr(at));
    if (next.bytes == 0) return at;
    at += static_cast<std::size_t>(next.bytes);
  }
  return at;
}

void append_utf8(char32_t code, std::string& out) {
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xC0 | (code >> 6));
    out += static_cast<char>(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    out += static_cast<char>(0xE0 | (code >> 12));
    out += static_cast<char>(0x80 | ((code >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (code & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | (code >> 18));
    out += static_cast<char>(0x80 | ((code >> 12) & 0x3F));
    out += static_cast<char>(0x80 | ((code >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (code & 0x3F));
  }
}

std::string_view strip_space(std::string_view text) {
  for (DecodedChar c = decode_utf8(text); c.bytes > 0 && is_python_space(c.code); c = decode_utf8(text)) {
    text.remove_prefix(static_cast<std::size_t>(c.bytes));
  }
  while (!text.empty()) {
    std::size_t start = text.size() - 1;
    while (start > 0 && text.size() - start < 4 && is_continuation(static_cast<unsigned char>(text[start]))) --start;
    const DecodedChar c = decode_utf8(text.substr(start));
    if (c.bytes == 0 || start + static_cast<std::size_t>(c.bytes) != text.size() || !is_python_space(c.code)) break;
    text.remove_suffix(static_cast<std::size_t>(c.bytes));
  }
  return text;
}

}  // namespace puna
