// SPDX-License-Identifier: Apache-2.0
#include "text/python_text.h"

#include <charconv>
#include <cmath>

namespace puna {
namespace {

constexpr int kDeepestValue = 256;  // parse_json stops at 200; values built in the program stay far below

void append_string(std::string_view text, std::string& out) {
  out += '"';
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          constexpr char kHex[] = "0123456789abcdef";
          out += "\\u00";
          out += kHex[c >> 4];
          out += kHex[c & 15];
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

// repr(float): the shortest digits that read back, scientific below 1e-4 and from 1e16 on.
void append_float(double value, std::string& out) {
  if (!std::isfinite(value)) {
    out += std::isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity";
    return;
  }
  char buffer[64];
  const double magnitude = std::fabs(value);
  const bool scientific = magnitude != 0 && (magnitude < 1e-4 || magnitude >= 1e16);
  const auto format = scientific ? std::chars_format::scientific : std::chars_format::fixed;
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof(buffer), value, format);
  const std::string_view digits(buffer, static_cast<std::size_t>(end - buffer));
  out += digits;
  if (!scientific && digits.find('.') == std::string_view::npos) out += ".0";
}

struct Style {
  int indent = 0;
  bool literal = false;  // Python's True, False, None
};

void append_value(const Json& value, const Style& style, int depth, std::string& out);

void append_break(const Style& style, int depth, std::string& out) {
  if (style.indent == 0) return;
  out += '\n';
  out.append(static_cast<std::size_t>(style.indent * depth), ' ');
}

void append_container(const Json& value, const Style& style, int depth, std::string& out) {
  const bool object = value.is_object();
  out += object ? '{' : '[';
  bool first = true;
  for (const auto& [key, element] : value.items()) {
    if (!first) out += style.indent == 0 ? ", " : ",";
    first = false;
    append_break(style, depth + 1, out);
    if (object) {
      append_string(key, out);
      out += ": ";
    }
    append_value(element, style, depth + 1, out);
  }
  if (!first) append_break(style, depth, out);
  out += object ? '}' : ']';
}

void append_value(const Json& value, const Style& style, int depth, std::string& out) {
  switch (value.type()) {
    case Json::value_t::object:
    case Json::value_t::array:
      if (depth < kDeepestValue) append_container(value, style, depth, out);
      break;
    case Json::value_t::string:
      append_string(value.get_ref<const std::string&>(), out);
      break;
    case Json::value_t::boolean:
      out += style.literal ? (value.get<bool>() ? "True" : "False") : (value.get<bool>() ? "true" : "false");
      break;
    case Json::value_t::number_float:
      append_float(value.get<double>(), out);
      break;
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned:
      out += value.dump();
      break;
    default:
      out += style.literal ? "None" : "null";
  }
}

}  // namespace

std::string python_json(const Json& value, int indent, int depth) {
  std::string out;
  append_value(value, {indent, false}, depth, out);
  return out;
}

std::string python_literal(const Json& value) {
  std::string out;
  append_value(value, {0, true}, 0, out);
  return out;
}

}  // namespace puna
