// SPDX-License-Identifier: Apache-2.0
#include "cli/command_tree.h"

#include <algorithm>

namespace puna {
namespace {

FlagInfo describe_flag(const CLI::Option& option) {
  FlagInfo flag;
  flag.about = option.get_description();
  flag.positional = !option.nonpositional();
  flag.required = option.get_required();
  flag.takes_value = option.get_items_expected_max() > 0;
  if (flag.takes_value) flag.value = option.get_type_name();
  for (const std::string& name : option.get_snames()) flag.names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) flag.names.push_back("--" + name);
  if (flag.positional) flag.names.push_back(option.get_name(true));
  return flag;
}

}  // namespace

std::vector<std::string> FlagInfo::choices() const {
  std::vector<std::string> words;
  if (value.find('|') == std::string::npos) return words;
  for (std::size_t begin = 0; begin <= value.size();) {
    const std::size_t end = std::min(value.find('|', begin), value.size());
    words.push_back(value.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

bool FlagInfo::takes_file() const {
  return value == "FILE" || value == "MODEL" || (positional && (names.back() == "MODEL" || names.back() == "OUT"));
}

std::vector<VerbInfo> describe_verbs(const CLI::App& app) {
  std::vector<VerbInfo> verbs;
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
    VerbInfo verb{sub->get_name(), sub->get_group(), sub->get_description(), sub->get_footer(), {}};
    for (const CLI::Option* option : sub->get_options()) verb.flags.push_back(describe_flag(*option));
    verbs.push_back(std::move(verb));
  }
  return verbs;
}

}  // namespace puna
