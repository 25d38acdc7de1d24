// SPDX-License-Identifier: Apache-2.0
#include "text/split_pattern.h"

namespace puna {

// The end of 's 't 're 've 'm 'll 'd at `at`, which is an apostrophe; nullptr where none of them stands there.
const char* Splitter::contraction(const char* at, bool any_case) const {
  const auto letter = [&](const char* p) {
    if (p >= end_) return '\0';
    return any_case && *p >= 'A' && *p <= 'Z' ? static_cast<char>(*p + ('a' - 'A')) : *p;
  };
  const char first = letter(at + 1);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return at + 2;
  const char second = letter(at + 2);
  if ((first == 'r' && second == 'e') || (first == 'v' && second == 'e') || (first == 'l' && second == 'l')) return at + 3;
  if (any_case && end_ - at >= 3 && at[1] == '\xC5' && at[2] == '\xBF') return at + 3;  // U+017F, long s
  return nullptr;
}

// \s*[\r\n]+ (Llama 3 only), then \s+(?!\S), then \s+, at a white space character. The first ends behind the run's last line end,
// because its greedy \s* gives back no more than that one character.
const char* Splitter::whitespace(const char* at, bool stop_after_newlines) const {
  const char* last = at;  // where the run's last character starts
  const char* after_newline = nullptr;
  const char* next = at;
  while (next < end_) {
    const Char c = read(next);
    if (c.cls != CharClass::kSpace && c.cls != CharClass::kNewline) break;
    last = next;
    next = c.next;
    if (c.cls == CharClass::kNewline) after_newline = next;
  }
  if (stop_after_newlines && after_newline != nullptr) return after_newline;
  return next == end_ || last == at ? next : last;
}

const char* Splitter::gpt2(const char* at) const {
  if (*at == '\'') {
    if (const char* next = contraction(at, false)) return next;
  }
  const char* mark = *at == ' ' && at + 1 < end_ ? at + 1 : at;
  const Char first = read(mark);
  if (first.cls == CharClass::kSpace || first.cls == CharClass::kNewline) return whitespace(at, false);
  return skip(first.next, first.cls);
}

}  // namespace puna
