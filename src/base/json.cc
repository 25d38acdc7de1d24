// SPDX-License-Identifier: Apache-2.0
#include "base/json.h"

#include <cstdint>
#include <type_traits>
#include <vector>

#include "base/error.h"

template class nlohmann::basic_json<puna::IndexedMap>;

namespace puna {
namespace {

constexpr int kDepthLimit = 200;

template <typename T>
bool holds(const Json& value) {
  if constexpr (std::is_same_v<T, bool>)
    return value.is_boolean();
  else if constexpr (std::is_same_v<T, std::int64_t>)
    return value.is_number_integer();
  else if constexpr (std::is_same_v<T, double>)
    return value.is_number();
  else
    return value.is_string();
}

template <typename T>
constexpr const char* kTypeName = std::is_same_v<T, bool>           ? "true or false"
                                  : std::is_same_v<T, std::int64_t> ? "a whole number"
                                  : std::is_same_v<T, double>       ? "a number"
                                                                    : "a string";

}  // namespace

Json parse_json(std::string_view text, const std::string& where) {
  const auto guard = [&](int depth, Json::parse_event_t, Json&) {
    if (depth > kDepthLimit) fail(ErrorKind::kBadInput, where, "JSON nested deeper than {} levels", kDepthLimit);
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), guard);
  } catch (const Json::parse_error& error) {
    fail(ErrorKind::kBadInput, where, "not valid JSON at byte {}: {}", error.byte, error.what());
  } catch (const Json::exception& error) {
    fail(ErrorKind::kBadInput, where, "not valid JSON: {}", error.what());
  }
}

template <typename T>
T json_at(const Json& object, const char* key, const std::string& where) {
  if (!object.is_object() || !object.contains(key)) fail(ErrorKind::kBadInput, where, "the key \"{}\" is missing", key);
  const Json& value = object.at(key);
  if (!holds<T>(value)) fail(ErrorKind::kBadInput, where, "\"{}\" is {}, expected {}", key, value.type_name(), kTypeName<T>);
  return value.get<T>();
}

template <typename T>
T json_or(const Json& object, const char* key, T otherwise, const std::string& where) {
  if (!object.is_object() || !object.contains(key) || object.at(key).is_null()) return otherwise;
  return json_at<T>(object, key, where);
}

std::string dump_json(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

template bool json_at<bool>(const Json&, const char*, const std::string&);
template std::int64_t json_at<std::int64_t>(const Json&, const char*, const std::string&);
template double json_at<double>(const Json&, const char*, const std::string&);
template std::string json_at<std::string>(const Json&, const char*, const std::string&);
template bool json_or<bool>(const Json&, const char*, bool, const std::string&);
template std::int64_t json_or<std::int64_t>(const Json&, const char*, std::int64_t, const std::string&);
template double json_or<double>(const Json&, const char*, double, const std::string&);
template std::string json_or<std::string>(const Json&, const char*, std::string, const std::string&);

}  // namespace puna
