// SPDX-License-Identifier: Apache-2.0
// How JSON is written under a schema, as pieces of a grammar. The texts are RFC 8259's, narrowed so that a model cannot run on:
//   white space   at the inside of brackets and behind commas and colons: none, one space, or one line end with up to 32 spaces or
//   8
//                 tabs of indentation; before commas and colons, and around the whole text, none
//   strings       unrestricted ones and those with a length only: any characters and escapes, but no half of a surrogate pair;
//                 those that are compared with something (pattern, format, enum, names): every character as itself, and " \ and
//                 control characters by their short escape, or \u00XX where there is none
//   numbers       up to 15 digits before the point and 15 behind it, an exponent of up to two digits; integers up to 18 digits
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/json.h"
#include "grammar/grammar_builder.h"

namespace puna {

// One character of the set, as a string that is compared spells it; the form is SpellChars.
void spell_in_json(GrammarBuilder& builder, int from, const CharSet& set, int to);
// The same for a whole text, with its quotes.
std::string quoted_json(std::string_view text);

class JsonText {
 public:
  explicit JsonText(GrammarBuilder& builder) : builder_(builder) {}

  // Each adds its piece behind `from` and returns the state behind it.
  int add_space(int from);
  int add_string(int from);
  int add_string_of_length(int from, std::uint32_t min, std::uint32_t max);  // in characters; kUnlimited
  int add_number(int from);
  int add_integer(int from);
  // Exactly this value; the members of objects in their order.
  int add_value(int from, const Json& value);

 private:
  int shared(int& rule, const char* name, int from, void (JsonText::*fill)(int start, int end));
  void fill_space(int start, int end);
  void fill_string(int start, int end);
  void fill_number(int start, int end);
  int add_any_char(int from);
  int add_digits(int from, std::uint32_t min, std::uint32_t max);

  GrammarBuilder& builder_;
  int space_ = -1, string_ = -1, number_ = -1;  // rules, once they are needed
};

}  // namespace puna
