// SPDX-License-Identifier: Apache-2.0
#include "grammar/listed_values.h"

#include <fmt/format.h>

#include <map>

#include "grammar/number_range.h"

namespace puna {
namespace {

constexpr std::size_t kBytesAStep = 8;

// Equal for equal values, and only for them.
std::string written_alike(const Json& value) {
  if (value.is_number()) {
    const DecimalNumber number = decimal_number(value);
    return fmt::format("{}{}e{}", number.negative ? "-" : "", number.digits, number.exponent);
  }
  if (value.is_array()) {
    std::string text = "[";
    for (const Json& item : value) text += written_alike(item) + ",";
    return text + "]";
  }
  if (!value.is_object()) return dump_json(value);
  std::map<std::string, std::string> members;
  for (const auto& [name, member] : value.items()) members.emplace(dump_json(Json(name)), written_alike(member));
  std::string text = "{";
  for (const auto& [name, member] : members) text += name + ":" + member + ",";
  return text + "}";
}

}  // namespace

ListedValues::ListedValues(const std::vector<Json>& values) {
  for (const Json& value : values) written_.insert(written_alike(value));
}

bool ListedValues::contains(const Json& value) const { return written_.contains(written_alike(value)); }

std::size_t value_steps(const Json& value) {
  if (value.is_string()) return 1 + value.get_ref<const std::string&>().size() / kBytesAStep;
  std::size_t steps = 1;
  if (value.is_array()) {
    for (const Json& item : value) steps += value_steps(item);
  } else if (value.is_object()) {
    for (const auto& [name, member] : value.items()) steps += 1 + name.size() / kBytesAStep + value_steps(member);
  }
  return steps;
}

}  // namespace puna
