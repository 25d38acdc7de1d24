// SPDX-License-Identifier: Apache-2.0
// Reads what Python's ast.literal_eval would: literals and calls with keyword arguments, out of a model's answer. A recursive
// descent over the text, 60 levels deep at most; every function returns false at the first character that does not fit and leaves
// position() there, so that a scan over hostile text never reads a character twice.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "text/chat.h"

namespace puna {

class PythonReader {
 public:
  explicit PythonReader(std::string_view text, std::size_t position = 0) : text_(text), at_(position) {}

  std::size_t position() const { return at_; }
  char peek();  // the next character that is not white space; '\0' at the end
  bool take(char c);

  bool name(std::string& value);                 // get_weather, tools.get_weather
  bool literal(Json& value);                     // "a", 'b', 1, -2.5, True, None, [..], (..), {..}; JSON's true, false, null too
  bool keyword_arguments(Json& arguments);       // (a="x", b=1): an object
  bool call_list(std::vector<ToolCall>& calls);  // [f(a="x"), g()]: at least one

 private:
  bool value(Json& out, int depth);
  bool sequence(Json& out, char close, int depth);
  bool dictionary(Json& out, int depth);
  bool quoted(std::string& out);
  bool escape(std::string& out);
  bool number(Json& out);
  bool word(Json& out);

  std::string_view text_;
  std::size_t at_;
};

}  // namespace puna
