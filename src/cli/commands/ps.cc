// SPDX-License-Identifier: Apache-2.0
// `puna ps`: the models of a running server.
#include <fmt/format.h>

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

// Whether a row of the list is of `puna serve`; other servers have this list too, with less in it.
bool is_row(const Json& model) {
  if (!model.is_object() || !model.contains("id") || !model["id"].is_string()) return false;
  if (!model.contains("puna") || !model["puna"].is_object()) return false;
  const Json& own = model["puna"];
  const bool sized = own.contains("bytes") && own["bytes"].is_number_unsigned();
  return sized && own.contains("state") && own["state"].is_string() &&
         (!own.contains("context") || own["context"].is_number_integer());
}

void list(const PsFlags& flags) {
  const ServerClient client(flags.host);
  const Json models = client.get("/v1/models");
  if (flags.json) return write_json(models);
  if (!models.is_object() || !models.contains("data") || !models["data"].is_array()) client.fail_foreign("\"data\"");
  std::string text = fmt::format("{:<40}  {:<10}  {:>10}  {:>8}\n", "MODEL", "STATE", "SIZE", "CONTEXT");
  for (const Json& model : models["data"]) {
    if (!is_row(model)) client.fail_foreign("\"puna\", the state of a model");
    const Json& own = model["puna"];
    text += fmt::format("{:<40}  {:<10}  {:>10}  {:>8}\n", model["id"].get<std::string>(), own["state"].get<std::string>(),
                        human_bytes(own["bytes"].get<std::uint64_t>()),
                        own.contains("context") ? std::to_string(own["context"].get<std::int64_t>()) : "");
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
