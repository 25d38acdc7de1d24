// SPDX-License-Identifier: Apache-2.0
// `puna help [VERB]`.
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/nearest.h"
#include "cli/output.h"
#include "cli/verb.h"

namespace puna {
namespace {

void help(const std::string& name) {
  VerbAction unused;
  const std::unique_ptr<CLI::App> app = make_app(unused);
  if (name.empty()) return write_out(app->help());
  std::vector<std::string> names;
  for (const Verb& verb : verbs()) {
    if (verb.name == name) return write_out(app->get_subcommand(name)->help("puna"));
    names.emplace_back(verb.name);
  }
  fail(ErrorKind::kUsage, "help", "unknown verb '{}'{}", name, did_you_mean(name, names));
}

}  // namespace

VerbAction declare_help(CLI::App& app) {
  const auto name = std::make_shared<std::string>();
  app.add_option("VERB", *name, "the verb to explain")->type_name("");
  return [name] { help(*name); };
}

}  // namespace puna
