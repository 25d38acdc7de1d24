// SPDX-License-Identifier: Apache-2.0
// A small validator of JSON Schema 2020-12, written for the tests and from the specification alone: it shares nothing with the
// compiler of schemas. It walks the value and the schema together, and knows every keyword that the tests' schemas use.
#pragma once

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/json.h"
#include "grammar/pcre.h"

namespace puna {

class SchemaValidator {
 public:
  explicit SchemaValidator(const Json& root) : root_(root) {}
  bool valid(const Json& value) { return check(root_, value); }

 private:
  static std::size_t length(const std::string& text) {
    return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
  }

  static bool is(const std::string& type, const Json& value) {
    if (type == "null") return value.is_null();
    if (type == "boolean") return value.is_boolean();
    if (type == "string") return value.is_string();
    if (type == "array") return value.is_array();
    if (type == "object") return value.is_object();
    if (type == "number") return value.is_number();
    return value.is_number_integer() || (value.is_number() && std::floor(value.get<double>()) == value.get<double>());
  }

  bool finds(const std::string& pattern, const std::string& text) {
    auto& compiled = patterns_[pattern];
    if (!compiled) compiled = std::make_unique<Pcre>(pattern);
    return compiled->finds(text);
  }

  static int number_at(std::string_view text, std::size_t at, std::size_t digits) {
    int value = 0;
    for (std::size_t i = at; i < at + digits; ++i) {
      if (i >= text.size() || text[i] < '0' || text[i] > '9') return -1;
      value = 10 * value + text[i] - '0';
    }
    return value;
  }

  static bool date(std::string_view text) {
    if (text.size() != 10 || text[4] != '-' || text[7] != '-') return false;
    const int year = number_at(text, 0, 4), month = number_at(text, 5, 2), day = number_at(text, 8, 2);
    if (year < 0 || month < 1 || month > 12 || day < 1) return false;
    const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    const int days[] = {31, leap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return day <= days[month - 1];
  }

  static bool time(std::string_view text) {
    if (text.size() < 9 || text[2] != ':' || text[5] != ':') return false;
    const auto below = [&](std::string_view part, std::size_t at, int limit) {
      const int value = number_at(part, at, 2);
      return value >= 0 && value < limit;
    };
    if (!below(text, 0, 24) || !below(text, 3, 60) || !below(text, 6, 60)) return false;
    text.remove_prefix(8);
    if (text[0] == '.') {
      const std::size_t end = text.find_first_not_of("0123456789", 1);
      if (end == 1 || end == std::string_view::npos) return false;
      text.remove_prefix(end);
    }
    if (text == "Z") return true;
    return text.size() == 6 && (text[0] == '+' || text[0] == '-') && text[3] == ':' && below(text, 1, 24) && below(text, 4, 60);
  }

  static bool hostname(std::string_view text) {
    if (text.empty() || text.size() > 253) return false;
    while (true) {
      const std::string_view label = text.substr(0, text.find('.'));
      if (label.empty() || label.size() > 63 || label.front() == '-' || label.back() == '-') return false;
      if (!std::all_of(label.begin(), label.end(), [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '-'; }))
        return false;
      if (label.size() == text.size()) return true;
      text.remove_prefix(label.size() + 1);
    }
  }

  bool format(const std::string& name, const std::string& text) {
    if (name == "date") return date(text);
    if (name == "time") return time(text);
    if (name == "date-time") return text.size() > 11 && date(text.substr(0, 10)) && text[10] == 'T' && time(text.substr(11));
    if (name == "hostname") return hostname(text);
    if (name == "email") {
      const std::size_t at = text.find('@');
      if (at == std::string::npos || at == 0 || at > 64 || text.find("..") != std::string::npos) return false;
      return text[0] != '.' && text[at - 1] != '.' && hostname(text.substr(at + 1)) &&
             text.find_first_of(" \"(),:;<>[]\\") == std::string::npos;
    }
    if (name == "uuid") {
      if (text.size() != 36) return false;
      for (std::size_t i = 0; i < text.size(); ++i) {
        const bool hyphen = i == 8 || i == 13 || i == 18 || i == 23;
        if (hyphen ? text[i] != '-' : std::isxdigit(static_cast<unsigned char>(text[i])) == 0) return false;
      }
      return true;
    }
    if (name == "ipv4") {
      int parts[4], used = 0;
      char rest = 0;
      if (std::sscanf(text.c_str(), "%d.%d.%d.%d%n%c", &parts[0], &parts[1], &parts[2], &parts[3], &used, &rest) != 4) return false;
      const std::string again = std::to_string(parts[0]) + "." + std::to_string(parts[1]) + "." + std::to_string(parts[2]) + "." +
                                std::to_string(parts[3]);
      return again == text && std::all_of(parts, parts + 4, [](int part) { return part >= 0 && part <= 255; });
    }
    if (name == "int32") return true;  // of numbers
    ADD_FAILURE() << "the validator does not know the format " << name;
    return false;
  }

  const Json& resolve(std::string reference) {
    if (root_.contains("$id") && reference.starts_with(root_["$id"].get<std::string>()))
      reference.erase(0, root_["$id"].get<std::string>().size());
    if (const std::size_t percent = reference.find("%25"); percent != std::string::npos) reference.replace(percent, 3, "%");
    if (reference == "#here") return root_["$defs"]["x"];  // the one $anchor there is
    return root_.at(Json::json_pointer(reference.substr(1)));
  }

  bool check(const Json& schema, const Json& value) {
    if (schema.is_boolean()) return schema.get<bool>();
    const auto all = [&](const char* key, auto&& holds) { return !schema.contains(key) || holds(schema[key]); };
    const auto count = [&](const Json& list) {
      return std::count_if(list.begin(), list.end(), [&](const Json& one) { return check(one, value); });
    };
    return all("$ref", [&](const Json& to) { return check(resolve(to.get<std::string>()), value); }) &&
           all("type", [&](const Json& type) { return types(type, value); }) &&
           all("enum", [&](const Json& list) { return std::find(list.begin(), list.end(), value) != list.end(); }) &&
           all("const", [&](const Json& one) { return one == value; }) &&
           all("allOf", [&](const Json& list) { return count(list) == static_cast<std::ptrdiff_t>(list.size()); }) &&
           all("anyOf", [&](const Json& list) { return count(list) > 0; }) &&
           all("oneOf", [&](const Json& list) { return count(list) == 1; }) &&
           all("not", [&](const Json& one) { return !check(one, value); }) && (!value.is_number() || number(schema, value)) &&
           (!value.is_string() || string(schema, value.get<std::string>())) && (!value.is_array() || array(schema, value)) &&
           (!value.is_object() || object(schema, value));
  }

  static bool types(const Json& type, const Json& value) {
    if (type.is_string()) return is(type.get<std::string>(), value);
    return std::any_of(type.begin(), type.end(), [&](const Json& one) { return is(one.get<std::string>(), value); });
  }

  // Whole numbers exactly, others as floating point reads them.
  static int compare(const Json& a, const Json& b) {
    if (a.is_number_integer() && b.is_number_integer()) {
      const auto x = a.get<std::int64_t>(), y = b.get<std::int64_t>();
      return x < y ? -1 : x > y;
    }
    const double x = a.get<double>(), y = b.get<double>();
    return x < y ? -1 : x > y;
  }

  static bool number(const Json& schema, const Json& value) {
    if (schema.contains("minimum") && compare(value, schema["minimum"]) < 0) return false;
    if (schema.contains("maximum") && compare(value, schema["maximum"]) > 0) return false;
    if (schema.contains("exclusiveMinimum") && compare(value, schema["exclusiveMinimum"]) <= 0) return false;
    if (schema.contains("exclusiveMaximum") && compare(value, schema["exclusiveMaximum"]) >= 0) return false;
    if (schema.contains("format") && schema["format"] == "int32" && std::fabs(value.get<double>() + 0.5) > 2147483648.0)
      return false;
    if (!schema.contains("multipleOf")) return true;
    if (value.is_number_integer() && schema["multipleOf"].is_number_integer())
      return value.get<std::int64_t>() % schema["multipleOf"].get<std::int64_t>() == 0;
    return std::fmod(value.get<double>(), schema["multipleOf"].get<double>()) == 0;
  }

  bool string(const Json& schema, const std::string& text) {
    if (schema.contains("minLength") && static_cast<double>(length(text)) < schema["minLength"].get<double>()) return false;
    if (schema.contains("maxLength") && static_cast<double>(length(text)) > schema["maxLength"].get<double>()) return false;
    if (schema.contains("pattern") && !finds(schema["pattern"].get<std::string>(), text)) return false;
    return !schema.contains("format") || format(schema["format"].get<std::string>(), text);
  }

  bool array(const Json& schema, const Json& value) {
    if (schema.contains("minItems") && static_cast<double>(value.size()) < schema["minItems"].get<double>()) return false;
    if (schema.contains("maxItems") && static_cast<double>(value.size()) > schema["maxItems"].get<double>()) return false;
    const std::size_t prefix = schema.contains("prefixItems") ? schema["prefixItems"].size() : 0;
    for (std::size_t i = 0; i < value.size(); ++i) {
      if (i < prefix ? !check(schema["prefixItems"][i], value[i]) : schema.contains("items") && !check(schema["items"], value[i]))
        return false;
    }
    return true;
  }

  bool object(const Json& schema, const Json& value) {
    if (schema.contains("minProperties") && static_cast<double>(value.size()) < schema["minProperties"].get<double>()) return false;
    if (schema.contains("maxProperties") && static_cast<double>(value.size()) > schema["maxProperties"].get<double>()) return false;
    if (schema.contains("required")) {
      for (const Json& name : schema["required"]) {
        if (!value.contains(name.get<std::string>())) return false;
      }
    }
    for (const auto& [name, member] : value.items()) {
      bool known = false;
      if (schema.contains("properties") && schema["properties"].contains(name)) {
        known = true;
        if (!check(schema["properties"][name], member)) return false;
      }
      if (schema.contains("patternProperties")) {
        for (const auto& [pattern, one] : schema["patternProperties"].items()) {
          if (!finds(pattern, name)) continue;
          known = true;
          if (!check(one, member)) return false;
        }
      }
      if (!known && schema.contains("additionalProperties") && !check(schema["additionalProperties"], member)) return false;
      if (schema.contains("propertyNames") && !check(schema["propertyNames"], Json(name))) return false;
    }
    return true;
  }

  const Json& root_;
  std::map<std::string, std::unique_ptr<Pcre>> patterns_;
};

}  // namespace puna
