// SPDX-License-Identifier: Apache-2.0
// `puna ps`: the models of a running server.
#include <memory>
#include <string>

#include "base/progress.h"
#include "cli/flags.h"
#include "cli/output.h"
#include "cli/server_client.h"
#include "cli/verb.h"

namespace puna {
namespace {

struct PsFlags {
  std::string host;
  bool json = false;
};

void list(const PsFlags& flags) {
  const Json models = ServerClient(flags.host).get("/v1/models");
  if (flags.json) return write_json(models);
  std::string text = fmt::format("{:<40}  {:<10}  {:>10}  {:>8}\n", "MODEL", "STATE", "SIZE", "CONTEXT");
  for (const Json& model : models.at("data")) {
    const Json& own = model.at("puna");
    text += fmt::format("{:<40}  {:<10}  {:>10}  {:>8}\n", model.at("id").get<std::string>(), own.at("state").get<std::string>(),
                        human_bytes(own.at("bytes").get<std::uint64_t>()),
                        own.contains("context") ? std::to_string(own.at("context").get<std::int64_t>()) : "");
  }
  write_text(text);
}

}  // namespace

VerbAction declare_ps(Command& command) {
  const auto flags = std::make_shared<PsFlags>();
  command.flag("--host", "ADDRESS", &flags->host,
               "the server: HOST:PORT, a URL or unix:PATH (default: PUNA_HOST, or 127.0.0.1:8080)");
  add_json(command, flags->json);
  return [flags] { list(*flags); };
}

}  // namespace puna
