// SPDX-License-Identifier: Apache-2.0
// A forward reader of JSON text that builds nothing: for tokenizer.json, whose vocabulary of 128,000 keys is slow as a tree, and
// for finding where a JSON value in a model's answer ends. Every function returns false at the first byte that is wrong and leaves
// position() there; nothing is read twice, so scanning hostile text stays linear. Nesting is limited to 200 levels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace puna {

class JsonReader {
 public:
  explicit JsonReader(std::string_view text, std::size_t position = 0) : text_(text), at_(position) {}

  std::size_t position() const { return at_; }
  // The next character that is not white space, or '\0' at the end; does not move past it.
  char peek();
  // Takes `c` after white space.
  bool take(char c);
  // A string; `value` lives until the next call, or as long as the text where it holds no escapes.
  bool string(std::string_view& value);
  bool integer(std::int64_t& value);
  // Any value; `value` is its bytes.
  bool skip(std::string_view& value);

  // One step through an object or array whose opening bracket has been taken. True: stands at the next element (after "key":).
  // False with ok: the closing bracket has been taken. `first` is true before the first element and is cleared.
  bool next_key(bool& first, std::string_view& key, bool& ok);
  bool next_item(bool& first, bool& ok);

 private:
  bool unescape(std::string_view raw);
  bool scan_string(std::string_view& raw, bool& escaped);
  bool scan_scalar();

  std::string_view text_;
  std::size_t at_;
  std::string scratch_;
};

}  // namespace puna
