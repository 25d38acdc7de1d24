// SPDX-License-Identifier: Apache-2.0
// `puna rm`: takes a model out of the cache. Asks first, and refuses to guess where nobody can be asked.
#include <iostream>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/progress.h"
#include "cli/flags.h"
#include "cli/output.h"
#include "cli/verb.h"
#include "hub/hub_cache.h"
#include "model/built_in.h"

namespace puna {
namespace {

struct RmFlags {
  std::string name;
  bool yes = false, json = false;
};

bool confirmed(const CachedModel& model) {
  if (!input_is_terminal()) fail(ErrorKind::kUsage, "rm", "nobody is there to ask: give --yes to remove {}", model.repository);
  write_note(fmt::format("remove {} ({}) from {}? [y/N] ", model.repository, human_bytes(static_cast<std::uint64_t>(model.bytes)),
                         model.path.parent_path().string()));
  std::string answer;
  std::getline(std::cin, answer);
  return answer == "y" || answer == "Y" || answer == "yes";
}

void remove(const RmFlags& flags) {
  if (flags.name == kBuiltInName) fail(ErrorKind::kUsage, kBuiltInName, "is inside the program and takes no room in the cache");
  const std::filesystem::path root = hub_cache_root();
  const CachedModel model = cached_model(root, flags.name);
  if (!flags.yes && !confirmed(model)) return write_note("puna: nothing was removed");
  const std::int64_t bytes = remove_cached_model(root, model);
  if (flags.json) return write_json({{"name", model.repository}, {"freed_bytes", bytes}});
  write_text(fmt::format("removed {}, {} freed\n", model.repository, human_bytes(static_cast<std::uint64_t>(bytes))));
}

}  // namespace

VerbAction declare_rm(Command& command) {
  const auto flags = std::make_shared<RmFlags>();
  command.positional("NAME", &flags->name, "org/name, or the name alone where only one model has it").required = true;
  command.flag("-y,--yes", &flags->yes, "do not ask");
  add_json(command, flags->json);
  return [flags] { remove(*flags); };
}

}  // namespace puna
