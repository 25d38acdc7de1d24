// SPDX-License-Identifier: Apache-2.0
#include "cli/config_file.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <type_traits>
#include <variant>
#include <vector>

#include "base/error.h"
#include "base/nearest.h"
#include "cli/input.h"

namespace puna {
namespace {

const Flag& flag_of(const Command& command, const std::string& key, const std::string& where) {
  std::vector<std::string> names;
  for (const Flag& flag : command.flags) {
    if (flag.positional) continue;
    if (flag.names.back() == "--" + key) return flag;
    names.push_back(flag.names.back().substr(2));
  }
  fail(ErrorKind::kBadInput, where, "'{}' is not a flag of puna {}{}", key, command.name, did_you_mean(key, names));
}

void set(const Flag& flag, const YAML::Node& value, const std::string& where) {
  std::visit(
      [&](auto target) {
        using Target = decltype(target);
        if constexpr (!std::is_same_v<Target, std::monostate>) {
          using Value = std::remove_pointer_t<Target>;
          if constexpr (std::is_same_v<Value, std::vector<std::string>>) {
            *target = value.IsSequence() ? value.as<Value>() : Value{value.as<std::string>()};
          } else {
            *target = value.as<Value>();
            if constexpr (std::is_integral_v<Value> && !std::is_same_v<Value, bool>) {
              if (flag.range &&
                  (static_cast<std::int64_t>(*target) < flag.range->low || static_cast<std::int64_t>(*target) > flag.range->high))
                fail(ErrorKind::kBadInput, where, "{} is not in {} to {}", *target, flag.range->low, flag.range->high);
            }
          }
        }
      },
      flag.target);
}

}  // namespace

void apply_config_file(const Command& command, const std::string& path, std::map<std::string, bool>& given) {
  const std::string text = read_file(path);
  YAML::Node root;
  try {
    root = YAML::Load(text);
  } catch (const YAML::Exception& error) {
    fail(ErrorKind::kBadInput, path, "is no YAML: {}", error.what());
  }
  if (root.IsNull()) return;
  if (!root.IsMap()) fail(ErrorKind::kBadInput, path, "expected lines of \"flag: value\"");
  for (const auto& entry : root) {
    const YAML::Node key = entry.first, value = entry.second;
    const std::string where = fmt::format("{}:{}", path, key.Mark().line + 1);
    try {
      const Flag& flag = flag_of(command, key.as<std::string>(), where);
      bool& is_given = given[flag.names.back()];
      if (!is_given) set(flag, value, where);
      is_given = true;
    } catch (const YAML::Exception&) {
      fail(ErrorKind::kBadInput, where, "the value of '{}' is not of the flag's kind", key.as<std::string>(""));
    }
  }
}

}  // namespace puna
