// SPDX-License-Identifier: Apache-2.0
#include "grammar/json_text.h"

#include <array>
#include <utility>

#include "base/error.h"
#include "text/unicode.h"

namespace puna {
namespace {

constexpr std::uint32_t kMaxIndentSpaces = 32, kMaxIndentTabs = 8;
constexpr std::uint32_t kMaxDigits = 15, kMaxIntegerDigits = 18, kMaxExponentDigits = 2;

// Characters with an escape of one letter.
constexpr std::array<std::pair<char32_t, char>, 7> kShortEscapes = {
    {{'"', '"'}, {'\\', '\\'}, {'\b', 'b'}, {'\f', 'f'}, {'\n', 'n'}, {'\r', 'r'}, {'\t', 't'}}};

// Characters that may stand for themselves.
const CharSet& unescaped() {
  static const CharSet set = CharSet{{' ', 0x10FFFF}}.intersected(CharSet::all()).without({{'"', '"'}, {'\\', '\\'}});
  return set;
}

// Control characters without a short escape.
const CharSet& numbered() {
  static const CharSet set = CharSet{{0, 0x1F}}.without({{'\b', '\b'}, {'\f', '\f'}, {'\n', '\n'}, {'\r', '\r'}, {'\t', '\t'}});
  return set;
}

void add_hex_digit(GrammarBuilder& builder, int from, std::uint8_t first, std::uint8_t last, int to) {
  if (first <= 9) builder.add_bytes(from, '0' + first, '0' + (last < 9 ? last : std::uint8_t{9}), to);
  if (last < 10) return;
  const std::uint8_t low = first < 10 ? std::uint8_t{0} : static_cast<std::uint8_t>(first - 10);
  const auto high = static_cast<std::uint8_t>(last - 10);
  builder.add_bytes(from, 'a' + low, 'a' + high, to);
  builder.add_bytes(from, 'A' + low, 'A' + high, to);
}

// XXXX behind \u: any but a surrogate, or a pair of them.
void add_unicode_escape(GrammarBuilder& builder, int from, int to) {
  const auto hex = [&](int begin, std::uint8_t first, std::uint8_t last) {
    const int end = builder.add_state();
    add_hex_digit(builder, begin, first, last, end);
    return end;
  };
  const int three = builder.add_state();  // behind the first digit, where any may follow
  add_hex_digit(builder, from, 0, 12, three);
  add_hex_digit(builder, from, 14, 15, three);
  const int two = hex(three, 0, 15);
  const int d = hex(from, 13, 13);
  add_hex_digit(builder, d, 0, 7, two);
  const int one = hex(two, 0, 15);
  add_hex_digit(builder, one, 0, 15, to);
  const int high = hex(hex(hex(d, 8, 11), 0, 15), 0, 15);
  const int low = builder.add_text(high, "\\u");
  add_hex_digit(builder, hex(hex(hex(low, 13, 13), 12, 15), 0, 15), 0, 15, to);
}

}  // namespace

void spell_in_json(GrammarBuilder& builder, int from, const CharSet& set, int to) {
  builder.add_chars(from, set.intersected(unescaped()), to);
  int backslash = -1, zeros = -1;
  const auto after_backslash = [&] {
    if (backslash < 0) backslash = builder.add_text(from, "\\");
    return backslash;
  };
  for (const auto& [code, letter] : kShortEscapes) {
    if (set.contains(code))
      builder.add_bytes(after_backslash(), static_cast<std::uint8_t>(letter), static_cast<std::uint8_t>(letter), to);
  }
  const CharSet controls = set.intersected(numbered());
  for (const CharRange& range : controls.ranges()) {
    if (zeros < 0) zeros = builder.add_text(after_backslash(), "u00");
    for (char32_t code = range.first; code <= range.last; ++code) {
      const auto low = static_cast<std::uint8_t>(code & 0xF);
      add_hex_digit(builder, builder.add_text(zeros, code < 0x10 ? "0" : "1"), low, low, to);
    }
  }
}

std::string quoted_json(std::string_view text) { return dump_json(Json(text)); }

int JsonText::shared(int& rule, const char* name, int from, void (JsonText::*fill)(int start, int end)) {
  if (rule < 0) {
    rule = builder_.add_rule(name);
    (this->*fill)(builder_.start_of(rule), builder_.end_of(rule));
  }
  return builder_.add_call(from, rule);
}

int JsonText::add_space(int from) { return shared(space_, "white space", from, &JsonText::fill_space); }

void JsonText::fill_space(int start, int end) {
  builder_.add_empty(start, end);
  builder_.add_bytes(start, ' ', ' ', end);
  const int line = builder_.add_text(start, "\n");
  const int space = builder_.add_state(), tab = builder_.add_state();
  builder_.add_empty(builder_.add_repeat(line, space, builder_.add_text(space, " "), space, 0, kMaxIndentSpaces), end);
  builder_.add_empty(builder_.add_repeat(line, tab, builder_.add_text(tab, "\t"), tab, 1, kMaxIndentTabs), end);
}

int JsonText::add_string(int from) { return shared(string_, "a string", from, &JsonText::fill_string); }

void JsonText::fill_string(int start, int end) { builder_.add_empty(add_string_of_length(start, 0, kUnlimited), end); }

int JsonText::add_string_of_length(int from, std::uint32_t min, std::uint32_t max) {
  const int open = builder_.add_text(from, "\"");
  if (max == 0) return builder_.add_text(open, "\"");
  const int body = builder_.add_state();
  return builder_.add_text(builder_.add_repeat(open, body, add_any_char(body), body, min, max), "\"");
}

int JsonText::add_any_char(int from) {
  const int to = builder_.add_state();
  builder_.add_chars(from, unescaped(), to);
  const int backslash = builder_.add_text(from, "\\");
  for (const char letter : {'"', '\\', '/', 'b', 'f', 'n', 'r', 't'})
    builder_.add_bytes(backslash, static_cast<std::uint8_t>(letter), static_cast<std::uint8_t>(letter), to);
  add_unicode_escape(builder_, builder_.add_text(backslash, "u"), to);
  return to;
}

int JsonText::add_digits(int from, std::uint32_t min, std::uint32_t max) {
  const int body = builder_.add_state(), end = builder_.add_state();
  builder_.add_bytes(body, '0', '9', end);
  return builder_.add_repeat(from, body, end, body, min, max);
}

int JsonText::add_integer(int from) {
  const int to = builder_.add_state();
  const int minus = builder_.add_text(from, "-");
  builder_.add_bytes(from, '0', '0', to);
  for (const int begin : {from, minus}) {
    const int first = builder_.add_state();
    builder_.add_bytes(begin, '1', '9', first);
    builder_.add_empty(add_digits(first, 0, kMaxIntegerDigits - 1), to);
  }
  return to;
}

int JsonText::add_number(int from) { return shared(number_, "a number", from, &JsonText::fill_number); }

void JsonText::fill_number(int start, int end) {
  const int sign = builder_.add_state(), whole = builder_.add_state(), first = builder_.add_state();
  builder_.add_empty(start, sign);
  builder_.add_bytes(start, '-', '-', sign);
  builder_.add_bytes(sign, '0', '0', whole);
  builder_.add_bytes(sign, '1', '9', first);
  builder_.add_empty(add_digits(first, 0, kMaxDigits - 1), whole);
  const int fraction = add_digits(builder_.add_text(whole, "."), 1, kMaxDigits);
  const int mantissa = builder_.add_state();
  builder_.add_empty(whole, mantissa);
  builder_.add_empty(fraction, mantissa);
  builder_.add_empty(mantissa, end);
  const int exponent = builder_.add_state(), exponent_sign = builder_.add_state();
  for (const std::uint8_t letter : {std::uint8_t{'e'}, std::uint8_t{'E'}}) builder_.add_bytes(mantissa, letter, letter, exponent);
  builder_.add_empty(exponent, exponent_sign);
  for (const std::uint8_t letter : {std::uint8_t{'+'}, std::uint8_t{'-'}})
    builder_.add_bytes(exponent, letter, letter, exponent_sign);
  builder_.add_empty(add_digits(exponent_sign, 1, kMaxExponentDigits), end);
}

int JsonText::add_value(int from, const Json& value) {
  if (!value.is_structured()) return builder_.add_text(from, dump_json(value));
  const bool object = value.is_object();
  from = builder_.add_text(from, object ? "{" : "[");
  bool first = true;
  for (const auto& [key, member] : value.items()) {
    if (!first) from = builder_.add_text(from, ",");
    first = false;
    from = add_space(from);
    if (object) from = add_space(builder_.add_text(from, quoted_json(key) + ":"));
    from = add_value(from, member);  // parse_json() bounds the nesting
  }
  return builder_.add_text(first ? from : add_space(from), object ? "}" : "]");
}

}  // namespace puna
