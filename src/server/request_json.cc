// SPDX-License-Identifier: Apache-2.0
#include "server/request_json.h"

#include <algorithm>
#include <limits>
#include <string>
#include <unordered_set>
#include <vector>

#include "base/nearest.h"

namespace puna {
namespace {

constexpr std::size_t kMostDepth = 64;
constexpr std::size_t kMostValues = 500'000;

// Reads along without building anything: counts, and remembers the keys of the objects that are open.
class BodyCheck final : public nlohmann::json_sax<Json> {
 public:
  std::string fault;

  bool null() override { return value(); }
  bool boolean(bool) override { return value(); }
  bool number_integer(number_integer_t) override { return value(); }
  bool number_unsigned(number_unsigned_t) override { return value(); }
  bool number_float(number_float_t, const string_t&) override { return value(); }
  bool string(string_t&) override { return value(); }
  bool binary(binary_t&) override { return value(); }
  bool start_object(std::size_t) override { return open(true); }
  bool start_array(std::size_t) override { return open(false); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    if (keys_.back().insert(name).second) return true;
    return stop("the key \"" + name.substr(0, 100) + "\" stands twice in one object");
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    const std::string_view text = error.what();
    const std::size_t colon = text.rfind("; ");
    const std::string_view detail = text.substr(colon == std::string_view::npos ? 0 : colon + 2);
    return stop("the body is not JSON, at byte " + std::to_string(position) + ": " + std::string(detail.substr(0, 200)));
  }

 private:
  bool stop(std::string why) {
    fault = std::move(why);
    return false;
  }
  bool value() { return ++values_ <= kMostValues || stop("the body holds more than " + std::to_string(kMostValues) + " values"); }
  bool open(bool) {
    keys_.emplace_back();
    if (keys_.size() > kMostDepth) return stop("the body nests deeper than " + std::to_string(kMostDepth) + " levels");
    return value();
  }
  bool close() {
    keys_.pop_back();
    return true;
  }

  std::vector<std::unordered_set<std::string>> keys_;
  std::size_t values_ = 0;
};

// A whole number that 64 bits with a sign hold.
bool is_integer(const Json& value) {
  constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max();
  return value.is_number_unsigned() ? value.get<std::uint64_t>() <= kMost : value.is_number_integer();
}

bool is_kind(const Json& value, FieldKind kind) {
  switch (kind) {
    case FieldKind::kBoolean:
      return value.is_boolean();
    case FieldKind::kInteger:
      return is_integer(value);
    case FieldKind::kNumber:
      return value.is_number();
    case FieldKind::kText:
      return value.is_string();
    case FieldKind::kObject:
      return value.is_object();
    case FieldKind::kList:
      return value.is_array();
    case FieldKind::kTextOrList:
      return value.is_string() || value.is_array();
    case FieldKind::kTextOrObject:
      return value.is_string() || value.is_object();
    case FieldKind::kBooleanOrInteger:
      return value.is_boolean() || is_integer(value);
    case FieldKind::kAny:
      return true;
  }
  return false;
}

std::string_view describe_kind(FieldKind kind) {
  switch (kind) {
    case FieldKind::kBoolean:
      return "true or false";
    case FieldKind::kInteger:
      return "a whole number";
    case FieldKind::kNumber:
      return "a number";
    case FieldKind::kText:
      return "a text";
    case FieldKind::kObject:
      return "an object";
    case FieldKind::kList:
      return "a list";
    case FieldKind::kTextOrList:
      return "a text or a list";
    case FieldKind::kTextOrObject:
      return "a text or an object";
    case FieldKind::kBooleanOrInteger:
      return "true, false or a whole number";
    case FieldKind::kAny:
      return "a value";
  }
  return "";
}

std::string shortened(const Json& value) {
  std::string text = dump_json(value);
  if (text.size() > 80) text = text.substr(0, 77) + "...";
  return text;
}

void check_range(const Json& value, const FieldRule& rule, const std::string& param) {
  if (rule.low == 0 && rule.high == 0) return;
  if (value.is_number()) {
    const auto number = value.get<double>();
    if (number >= rule.low && number <= rule.high) return;
    refuse_field(param, "\"{}\" is {}, expected {} to {}", param, shortened(value), rule.low, rule.high);
  }
  if (!value.is_string() && !value.is_array()) return;
  const auto size = static_cast<double>(value.is_string() ? value.get_ref<const std::string&>().size() : value.size());
  if (size >= rule.low && size <= rule.high) return;
  refuse_field(param, "\"{}\" has {} {}, expected {} to {}", param, size, value.is_string() ? "bytes" : "items", rule.low,
               rule.high);
}

void check_known(const Json& object, std::span<const FieldRule> rules, const std::string& prefix) {
  for (const auto& [name, value] : object.items()) {
    if (std::ranges::find(rules, std::string_view(name), &FieldRule::name) != rules.end()) continue;
    std::vector<std::string> names;
    for (const FieldRule& rule : rules) names.emplace_back(rule.name);
    const std::string short_name = name.substr(0, 100), param = prefix + short_name;
    throw ApiError(400, "unknown_parameter", param,
                   fmt::format("the field \"{}\" is unknown here{}", param, did_you_mean(short_name, names)));
  }
}

}  // namespace

Json parse_request(std::string_view body) {
  BodyCheck check;
  if (!Json::sax_parse(body.begin(), body.end(), &check)) throw ApiError(400, "invalid_json", "body", check.fault);
  Json value = parse_json(body, "body");
  if (!value.is_object())
    throw ApiError(400, "invalid_json", "body", "the body is " + std::string(value.type_name()) + ", expected an object");
  return value;
}

void check_fields(const Json& object, std::span<const FieldRule> rules, const std::string& prefix) {
  check_known(object, rules, prefix);
  for (const FieldRule& rule : rules) {
    const std::string param = prefix + rule.name;
    const auto found = object.find(rule.name);
    if (found == object.end() || (found->is_null() && rule.nullable && !rule.required)) {
      if (rule.required)
        throw ApiError(400, "missing_required_parameter", param, fmt::format("the field \"{}\" is missing", param));
      continue;
    }
    if (!is_kind(*found, rule.kind))
      throw ApiError(400, "invalid_type", param,
                     fmt::format("\"{}\" is {}, expected {}", param, shortened(*found), describe_kind(rule.kind)));
    check_range(*found, rule, param);
  }
}

const Json* given_field(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

}  // namespace puna
