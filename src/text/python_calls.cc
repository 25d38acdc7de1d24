// SPDX-License-Identifier: Apache-2.0
#include "text/python_calls.h"

#include <algorithm>
#include <charconv>
#include <cstdint>

#include "text/unicode.h"

namespace puna {
namespace {

constexpr int kDeepestCall = 60;

bool is_python_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool starts_name(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

// How many hexadecimal digits follow \x, \u or \U.
int hex_digits(char kind) { return kind == 'x' ? 2 : kind == 'u' ? 4 : kind == 'U' ? 8 : 0; }

char python_escape(char c) {
  switch (c) {
    case 'n':
      return '\n';
    case 't':
      return '\t';
    case 'r':
      return '\r';
    case 'b':
      return '\b';
    case 'f':
      return '\f';
    case '\\':
    case '\'':
    case '"':
      return c;
    default:
      return '\0';
  }
}

}  // namespace

char PythonReader::peek() {
  while (at_ < text_.size() && is_python_space(text_[at_])) ++at_;
  return at_ < text_.size() ? text_[at_] : '\0';
}

bool PythonReader::take(char c) {
  if (peek() != c || at_ >= text_.size()) return false;
  ++at_;
  return true;
}

bool PythonReader::name(std::string& value) {
  if (!starts_name(peek())) return false;
  const std::size_t begin = at_;
  while (at_ < text_.size() && (starts_name(text_[at_]) || is_digit(text_[at_]) || text_[at_] == '.' || text_[at_] == '-')) ++at_;
  value = text_.substr(begin, at_ - begin);
  return true;
}

bool PythonReader::escape(std::string& out) {
  if (at_ >= text_.size()) return false;
  const char kind = text_[at_++];
  if (const int digits = hex_digits(kind); digits > 0) {
    std::uint32_t code = 0;
    const char* const begin = text_.data() + at_;
    const auto there = std::min<std::size_t>(static_cast<std::size_t>(digits), text_.size() - at_);
    const auto read = static_cast<std::size_t>(std::from_chars(begin, begin + there, code, 16).ptr - begin);
    at_ += read;
    if (read < static_cast<std::size_t>(digits)) return false;
    if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return false;
    append_utf8(code, out);
  } else if (const char c = python_escape(kind); c != '\0') {
    out += c;
  } else if (kind != '\n') {  // Python keeps unknown escapes as they are, and joins lines over a backslash
    out += '\\';
    out += kind;
  }
  return true;
}

bool PythonReader::quoted(std::string& out) {
  const char quote = peek();
  ++at_;
  out.clear();
  while (at_ < text_.size()) {
    const char c = text_[at_++];
    if (c == quote) return true;
    if (c == '\n') return false;
    if (c != '\\') {
      out += c;
    } else if (!escape(out)) {
      return false;
    }
  }
  return false;
}

bool PythonReader::number(Json& out) {
  const std::size_t begin = at_;
  if (text_[at_] == '-' || text_[at_] == '+') ++at_;
  bool whole = true;
  while (at_ < text_.size() && (is_digit(text_[at_]) || text_[at_] == '.' || text_[at_] == 'e' || text_[at_] == 'E' ||
                                ((text_[at_] == '-' || text_[at_] == '+') && (text_[at_ - 1] == 'e' || text_[at_ - 1] == 'E')))) {
    whole = whole && is_digit(text_[at_]);
    ++at_;
  }
  const char* first = text_.data() + begin + (text_[begin] == '+' ? 1 : 0);
  const char* const last = text_.data() + at_;
  std::int64_t integer = 0;
  if (whole && std::from_chars(first, last, integer).ptr == last && std::from_chars(first, last, integer).ec == std::errc()) {
    out = integer;
    return true;
  }
  double real = 0;
  const auto [end, error] = std::from_chars(first, last, real);
  if (error != std::errc() || end != last) return false;
  out = real;
  return true;
}

bool PythonReader::word(Json& out) {
  std::string text;
  if (!name(text)) return false;
  if (text == "True" || text == "true") {
    out = true;
  } else if (text == "False" || text == "false") {
    out = false;
  } else if (text == "None" || text == "null") {
    out = nullptr;
  } else {
    return false;
  }
  return true;
}

bool PythonReader::sequence(Json& out, char close, int depth) {
  ++at_;
  out = Json::array();
  while (!take(close)) {
    Json element;
    if (!value(element, depth + 1)) return false;
    out.push_back(std::move(element));
    if (take(close)) return true;
    if (!take(',')) return false;
  }
  return true;
}

bool PythonReader::dictionary(Json& out, int depth) {
  ++at_;
  out = Json::object();
  while (!take('}')) {
    const char start = peek();
    std::string key;
    if ((start != '"' && start != '\'') || !quoted(key) || !take(':')) return false;
    Json element;
    if (!value(element, depth + 1)) return false;
    out[key] = std::move(element);
    if (take('}')) return true;
    if (!take(',')) return false;
  }
  return true;
}

bool PythonReader::value(Json& out, int depth) {
  if (depth > kDeepestCall) return false;
  const char start = peek();
  if (start == '"' || start == '\'') {
    std::string text;
    if (!quoted(text)) return false;
    out = std::move(text);
    return true;
  }
  if (start == '[') return sequence(out, ']', depth);
  if (start == '(') return sequence(out, ')', depth);
  if (start == '{') return dictionary(out, depth);
  if (is_digit(start) || start == '-' || start == '+' || start == '.') return number(out);
  return word(out);
}

bool PythonReader::literal(Json& out) { return value(out, 0); }

bool PythonReader::keyword_arguments(Json& arguments) {
  arguments = Json::object();
  if (!take('(')) return false;
  while (!take(')')) {
    std::string key;
    Json argument;
    if (!name(key) || !take('=') || !value(argument, 0)) return false;
    arguments[key] = std::move(argument);
    if (take(')')) return true;
    if (!take(',')) return false;
  }
  return true;
}

bool PythonReader::call_list(std::vector<ToolCall>& calls) {
  if (!take('[')) return false;
  const std::size_t before = calls.size();
  while (!take(']')) {
    ToolCall call;
    if (!name(call.name) || !keyword_arguments(call.arguments)) return false;
    calls.push_back(std::move(call));
    if (take(']')) break;
    if (!take(',')) return false;
  }
  return calls.size() > before;
}

}  // namespace puna
