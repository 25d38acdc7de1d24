// SPDX-License-Identifier: Apache-2.0
// `puna help [VERB]`.
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/nearest.h"
#include "cli/output.h"
#include "cli/parser.h"
#include "cli/verb.h"

namespace puna {
namespace {

void help(const std::string& name) {
  if (name.empty()) return write_out(help_text());
  std::vector<std::string> names;
  for (const Verb& verb : verbs()) {
    if (verb.name == name) return write_out(help_text(name));
    names.emplace_back(verb.name);
  }
  fail(ErrorKind::kUsage, "help", "unknown verb '{}'{}", name, did_you_mean(name, names));
}

}  // namespace

VerbAction declare_help(Command& command) {
  const auto name = std::make_shared<std::string>();
  command.positional("VERB", name.get(), "the verb to explain");
  return [name] { help(*name); };
}

}  // namespace puna
