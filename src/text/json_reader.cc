// SPDX-License-Identifier: Apache-2.0
#include "text/json_reader.h"

#include <charconv>
#include <vector>

#include "text/unicode.h"

namespace puna {
namespace {

constexpr std::size_t kDepthLimit = 200;

bool is_json_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

bool is_scalar_char(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '+' || c == '.';
}

bool hex4(std::string_view text, char32_t& code) {
  if (text.size() < 4) return false;
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + 4, value, 16);
  code = value;
  return error == std::errc() && end == text.data() + 4;
}

char json_escape(char c) {
  switch (c) {
    case '"':
    case '\\':
    case '/':
      return c;
    case 'b':
      return '\b';
    case 'f':
      return '\f';
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 't':
      return '\t';
    default:
      return '\0';
  }
}

}  // namespace

char JsonReader::peek() {
  while (at_ < text_.size() && is_json_space(text_[at_])) ++at_;
  return at_ < text_.size() ? text_[at_] : '\0';
}

bool JsonReader::take(char c) {
  if (peek() != c || at_ >= text_.size()) return false;
  ++at_;
  return true;
}

// Takes a string and gives what stands between its quotes.
bool JsonReader::scan_string(std::string_view& raw, bool& escaped) {
  if (!take('"')) return false;
  const std::size_t begin = at_;
  escaped = false;
  for (; at_ < text_.size(); ++at_) {
    const char c = text_[at_];
    if (c == '"') {
      raw = text_.substr(begin, at_ - begin);
      ++at_;
      return true;
    }
    if (static_cast<unsigned char>(c) < 0x20) return false;
    if (c == '\\') {
      escaped = true;
      ++at_;
    }
  }
  at_ = text_.size();
  return false;
}

bool JsonReader::unescape(std::string_view raw) {
  scratch_.clear();
  for (std::size_t i = 0; i < raw.size(); ++i) {
    if (raw[i] != '\\') {
      scratch_ += raw[i];
      continue;
    }
    if (++i >= raw.size()) return false;
    if (raw[i] != 'u') {
      const char c = json_escape(raw[i]);
      if (c == '\0') return false;
      scratch_ += c;
      continue;
    }
    char32_t code = 0, low = 0;
    if (!hex4(raw.substr(i + 1), code)) return false;
    i += 4;
    if (code >= 0xD800 && code < 0xDC00) {
      if (raw.substr(i + 1, 2) != "\\u" || !hex4(raw.substr(i + 3), low) || low < 0xDC00 || low > 0xDFFF) return false;
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
      i += 6;
    } else if (code >= 0xDC00 && code <= 0xDFFF) {
      return false;
    }
    append_utf8(code, scratch_);
  }
  return true;
}

bool JsonReader::string(std::string_view& value) {
  bool escaped = false;
  if (!scan_string(value, escaped)) return false;
  if (!escaped) return true;
  if (!unescape(value)) return false;
  value = scratch_;
  return true;
}

bool JsonReader::integer(std::int64_t& value) {
  peek();
  const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
  if (error != std::errc()) return false;
  at_ = static_cast<std::size_t>(end - text_.data());
  return at_ >= text_.size() || !is_scalar_char(text_[at_]);
}

bool JsonReader::scan_scalar() {
  const std::size_t begin = at_;
  while (at_ < text_.size() && is_scalar_char(text_[at_])) ++at_;
  const std::string_view word = text_.substr(begin, at_ - begin);
  if (word.empty()) return false;
  const bool number = word[0] == '-' || (word[0] >= '0' && word[0] <= '9');
  return number || word == "true" || word == "false" || word == "null";
}

bool JsonReader::skip(std::string_view& value) {
  std::vector<char> open;  // the brackets we are inside of
  peek();
  const std::size_t begin = at_;
  std::string_view raw;
  bool escaped = false;
  bool expect_value = true;  // else a comma or a closing bracket
  do {
    const char c = peek();
    if (!open.empty() && c == open.back()) {
      open.pop_back();
      ++at_;
      expect_value = false;
      continue;
    }
    if (!expect_value) {
      if (!take(',')) return false;
      expect_value = true;
      if (peek() == open.back()) return false;  // a comma before the bracket
      continue;
    }
    if (!open.empty() && open.back() == '}' && (!scan_string(raw, escaped) || !take(':'))) return false;
    const char start = peek();
    if (start == '{' || start == '[') {
      if (open.size() >= kDepthLimit) return false;
      open.push_back(start == '{' ? '}' : ']');
      ++at_;
      continue;  // an element or the closing bracket may follow
    }
    if (start == '"' ? !scan_string(raw, escaped) : !scan_scalar()) return false;
    expect_value = false;
  } while (!open.empty());
  value = text_.substr(begin, at_ - begin);
  return true;
}

bool JsonReader::next_item(bool& first, bool& ok) {
  ok = true;
  const char c = peek();
  if (c == ']' || c == '}') {
    ++at_;
    return false;
  }
  if (!first && !take(',')) {
    ok = false;
    return false;
  }
  first = false;
  return true;
}

bool JsonReader::next_key(bool& first, std::string_view& key, bool& ok) {
  if (!next_item(first, ok)) return false;
  ok = string(key);
  ok = ok && take(':');  // does not touch scratch_: `key` stays valid
  return ok;
}

}  // namespace puna
