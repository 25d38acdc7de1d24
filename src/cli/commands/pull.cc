// SPDX-License-Identifier: Apache-2.0
// `puna pull`: a model from the hub into the cache. The path it can be opened at is the last line on standard output.
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/progress.h"
#include "cli/flags.h"
#include "cli/output.h"
#include "cli/verb.h"
#include "hub/hub_cache.h"
#include "hub/hub_pull.h"

namespace puna {
namespace {

struct PullFlags {
  std::string name;
  std::vector<std::string> include;
  bool json = false;
};

void pull(const PullFlags& flags) {
  const auto name = parse_hub_name(flags.name);
  if (!name) {
    fail(ErrorKind::kUsage, flags.name, "this is no name on the hub: expected org/name, org/name:revision or org/name:Q4_K_M");
  }
  HubClient client(hub_options());
  std::optional<ProgressBar> bar;  // of the file that comes
  std::string shown;
  const PullListener listener = [&](const PullProgress& progress) {
    if (progress.path != shown) bar.emplace(shown = progress.path, static_cast<std::uint64_t>(progress.total), "bytes");
    bar->set(static_cast<std::uint64_t>(progress.done));
  };
  const PullReport report = pull_model(client, hub_cache_root(), *name, flags.include, listener);
  bar.reset();
  if (flags.json) {
    return write_json({{"name", name->repository},
                       {"commit", report.commit},
                       {"path", report.path.string()},
                       {"files", report.files},
                       {"bytes", report.bytes},
                       {"downloaded_bytes", report.downloaded}});
  }
  write_note(fmt::format("{}: {} files, {} ({} downloaded)", name->repository, report.files.size(),
                         human_bytes(static_cast<std::uint64_t>(report.bytes)),
                         human_bytes(static_cast<std::uint64_t>(report.downloaded))));
  write_text(report.path.string() + "\n");
}

}  // namespace

VerbAction declare_pull(Command& command) {
  const auto flags = std::make_shared<PullFlags>();
  command.positional("NAME", &flags->name, "org/name, org/name:revision or, for GGUF, org/name:Q4_K_M").required = true;
  command.flag("--include", "GLOB", &flags->include, "take the files that match this pattern instead; may be repeated");
  add_json(command, flags->json);
  return [flags] { pull(*flags); };
}

}  // namespace puna
