// SPDX-License-Identifier: Apache-2.0
#include "cli/prompt_choice.h"

#include <fmt/format.h>

#include <vector>

#include "base/error.h"
#include "base/nearest.h"

namespace puna {

PromptFormat named_prompt_format(const std::string& name) {
  if (auto format = prompt_format_from_name(name)) return *format;
  std::vector<std::string> names;
  for (const std::string_view known : prompt_format_names()) names.emplace_back(known);
  fail(ErrorKind::kUsage, "--format", "'{}' is not a prompt format, expected one of {}{}", name, fmt::join(names, ", "),
       did_you_mean(name, names));
}

PromptFormat choose_prompt_format(const Checkpoint& checkpoint, const std::string& name) {
  return name.empty() ? checkpoint.need_prompt_format() : named_prompt_format(name);
}

std::string prompt_format_choices() { return fmt::format("{}", fmt::join(prompt_format_names(), "|")); }

}  // namespace puna
