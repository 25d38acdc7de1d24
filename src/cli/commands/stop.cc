// SPDX-License-Identifier: Apache-2.0
// `puna stop`: unloads a model of a running server, or ends the server, which finishes its answers first.
#include <fmt/format.h>

#include <memory>
#include <string>

#include "cli/flags.h"
#include "cli/output.h"
#include "cli/server_client.h"
#include "cli/verb.h"

namespace puna {
namespace {

struct StopFlags {
  std::string model, host;
  bool json = false;
};

void stop(const StopFlags& flags) {
  const ServerClient client(flags.host);
  const Json reply =
      flags.model.empty() ? client.post("/puna/stop", Json::object()) : client.post("/puna/unload", {{"model", flags.model}});
  if (flags.json) return write_json(reply);
  if (flags.model.empty()) return write_text("the server ends its answers and stops\n");
  if (!reply.is_object() || !reply.contains("unloaded") || !reply["unloaded"].is_boolean()) client.fail_foreign("\"unloaded\"");
  write_text(reply["unloaded"].get<bool>() ? fmt::format("{} is unloaded\n", flags.model)
                                           : fmt::format("{} was not loaded\n", flags.model));
}

}  // namespace

VerbAction declare_stop(Command& command) {
  const auto flags = std::make_shared<StopFlags>();
  command.positional("MODEL", &flags->model, "the model to unload (default: none, the server itself is stopped)");
  command.flag("--host", "ADDRESS", &flags->host,
               "the server: HOST:PORT, a URL or unix:PATH (default: PUNA_HOST, or 127.0.0.1:8080)");
  add_json(command, flags->json);
  return [flags] { stop(*flags); };
}

}  // namespace puna
