// SPDX-License-Identifier: Apache-2.0
// A request's body as JSON, and its fields against a table: every field has a kind and a range there, in one place, so that a wrong
// value is refused by name before anything looks at it, and an unknown field is refused and not passed over.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/json.h"
#include "server/api_error.h"

namespace puna {

// Throws ApiError 400 for what is no JSON object, nests deeper than 64, holds a key twice, more than 500,000 values or invalid
// UTF-8.
Json parse_request(std::string_view body);

enum class FieldKind { kBoolean, kInteger, kNumber, kText, kObject, kList, kTextOrList, kTextOrObject, kBooleanOrInteger, kAny };

struct FieldRule {
  const char* name;
  FieldKind kind;
  double low = 0, high = 0;  // numbers: the range; texts: bytes; lists: items. Both zero: no limits
  bool required = false, nullable = true;
};

// Throws ApiError 400 with `param` for a field that no rule names, a value of another kind or out of range, one that is missing.
// `prefix` stands before the names: "options.".
void check_fields(const Json& object, std::span<const FieldRule> rules, const std::string& prefix = "");

// What a checked field holds; `otherwise` where it is absent or null.
template <typename T>
T field_or(const Json& object, const char* name, T otherwise) {
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? otherwise : found->template get<T>();
}
// The field, or nullptr where it is absent or null.
const Json* given_field(const Json& object, const char* name);

}  // namespace puna
