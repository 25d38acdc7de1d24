// SPDX-License-Identifier: Apache-2.0
#include "cli/command.h"

#include <algorithm>

namespace puna {
namespace {

std::vector<std::string> split(std::string_view text, char between) {
  std::vector<std::string> words;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(between, begin), text.size());
    words.emplace_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

}  // namespace

std::vector<std::string> Flag::choices() const {
  if (value.find('|') == std::string::npos) return {};
  return split(value, '|');
}

bool Flag::takes_file() const {
  return value == "FILE" || value == "MODEL" || (positional && (names.back() == "MODEL" || names.back() == "OUT"));
}

Command::Command(std::string_view its_name, std::string_view its_group, std::string_view its_about)
    : name(its_name), group(its_group), about(its_about) {
  flag("-h,--help", "", std::monostate(), "print this help");
}

Flag& Command::flag(std::string_view names, std::string_view value, Flag::Target target, std::string_view help) {
  return flags.emplace_back(
      Flag{.names = split(names, ','), .value = std::string(value), .target = target, .about = std::string(help)});
}

Flag& Command::flag(std::string_view names, bool* target, std::string_view help) { return flag(names, "", target, help); }

Flag& Command::positional(std::string_view word, Flag::Target target, std::string_view help) {
  Flag& added = flag(word, "", target, help);
  added.positional = true;
  return added;
}

}  // namespace puna
