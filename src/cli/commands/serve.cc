// SPDX-License-Identifier: Apache-2.0
// `puna serve`: models over HTTP. What surprises: beyond loopback it does not listen without a key; and where models are named,
// they are all it has, where none is, it has what the cache holds, and nano.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/environment.h"
#include "base/error.h"
#include "cli/config_file.h"
#include "cli/draft_flags.h"
#include "cli/flags.h"
#include "cli/input.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/server_address.h"
#include "cli/verb.h"
#include "hub/hub_cache.h"
#include "hub/hub_client.h"
#include "kernels/activations.h"
#include "model/built_in.h"
#include "server/server.h"

namespace puna {
namespace {

namespace fs = std::filesystem;

struct ServeFlags {
  std::vector<std::string> models, adapters, hosts, origins;
  std::string host, unix_path, key_file, certificate, tls_key, config, runs, votes, date;
  int port = kDefaultPort, parallel = 16, most_in_flight = 0, rate = 0, drain = 30, keep_alive = -1;
  std::int64_t memory_megabytes = 0, body_megabytes = 16;
  bool batch_invariant = false;
  EngineFlags engine;
  DraftFlags draft;
  SamplerFlags sampler;
  std::map<std::string, bool> given;  // by the flag's name
};

// Lines of "KEY", "manage KEY" or "infer KEY"; blank ones and those that begin with # say nothing.
void read_keys(const std::string& path, AccessOptions& access) {
  const std::string text = read_file(path);
  for (const TextLine& line : text_lines(text)) {
    std::string_view key = line.text.substr(0, line.text.find_last_not_of(" \t\r") + 1);
    if (key.empty() || key.front() == '#') continue;
    const bool infer = key.starts_with("infer ");
    if (infer || key.starts_with("manage ")) key.remove_prefix(key.find(' ') + 1);
    if (key.find(' ') != std::string_view::npos)
      fail(ErrorKind::kBadInput, path, "line {}: expected KEY, \"infer KEY\" or \"manage KEY\"", line.number);
    (infer ? access.infer_keys : access.manage_keys).emplace_back(key);
  }
  if (access.infer_keys.empty() && access.manage_keys.empty()) fail(ErrorKind::kBadInput, path, "there is no key in it");
}

ModelSource source_of(std::string id, const std::string& model) { return model_source(std::move(id), find_model(model)); }

// "NAME=MODEL", or a MODEL, which is called by its name in the cache or its file's.
ModelSource named_source(const std::string& word) {
  const std::size_t equals = word.find('=');
  if (equals != std::string::npos && !fs::exists(word)) {
    if (equals == 0) fail(ErrorKind::kUsage, word, "the name before = is empty");
    return source_of(word.substr(0, equals), word.substr(equals + 1));
  }
  if (!fs::exists(word)) return source_of(word, word);
  fs::path path = fs::path(word).lexically_normal();
  if (path.filename().empty()) path = path.parent_path();
  return source_of(fs::is_directory(path) ? path.filename().string() : path.stem().string(), word);
}

std::vector<ModelSource> sources(const ServeFlags& flags, const fs::path& cache) {
  std::vector<ModelSource> found;
  for (const std::string& word : flags.models) found.push_back(named_source(word));
  for (const ModelSource& source : found) {
    if (std::ranges::count(found, source.id, &ModelSource::id) > 1)
      fail(ErrorKind::kUsage, source.id, "two models have this name: give one another with NAME=MODEL");
  }
  if (!found.empty()) return found;
  if (!cache.empty()) found = cached_sources(cache);
  found.push_back(source_of(kBuiltInName, kBuiltInName));
  return found;
}

// Where neither HOME nor HF_HOME is set, as under some service managers, there is no cache.
StoreOptions store_options() {
  try {
    return {.root = hub_cache_root(), .hub = hub_options()};
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kNotFound) throw;
    return {};
  }
}

RegistryOptions registry_options(const ServeFlags& flags) {
  RegistryOptions options;
  options.model.engine = engine_options(flags.engine);
  options.model.scheduler = {.most_running = flags.parallel, .large_groups = !flags.batch_invariant};
  if (flags.batch_invariant) options.model.scheduler.most_running = std::min(flags.parallel, static_cast<int>(kPanelRows) - 1);
  options.model.engine.sequences = options.model.scheduler.most_running;
  options.model.engine.logit_rows = options.model.scheduler.most_running * flags.draft.logit_rows();
  options.memory_budget = flags.memory_megabytes << 20;
  options.keep_alive = std::chrono::seconds(flags.keep_alive);
  return options;
}

// "NAME=FOLDER" is the first model's, "MODEL:NAME=FOLDER" another's.
void add_adapters(const std::vector<std::string>& given, std::vector<ModelSource>& models) {
  for (const std::string& text : given) {
    const std::size_t equals = text.find('='), colon = text.rfind(':', equals);
    const bool names_model = colon != std::string::npos && colon < equals;
    const std::string name = text.substr(names_model ? colon + 1 : 0, equals - (names_model ? colon + 1 : 0));
    if (equals == std::string::npos || name.empty())
      fail(ErrorKind::kUsage, "--adapter", "'{}': expected NAME=FOLDER or MODEL:NAME=FOLDER, for example sql=runs/sql", text);
    const auto model = names_model ? std::ranges::find(models, text.substr(0, colon), &ModelSource::id) : models.begin();
    if (model == models.end()) fail(ErrorKind::kUsage, "--adapter", "'{}': there is no model {} here", text, text.substr(0, colon));
    if (!fs::is_directory(text.substr(equals + 1))) fail(ErrorKind::kNotFound, text.substr(equals + 1), "there is no such folder");
    model->adapters.push_back({name, text.substr(equals + 1)});
  }
}

// Look-up is every model's; a draft model is the first one's, whose vocabulary it must have.
void add_drafts(const ServeFlags& flags, std::vector<ModelSource>& models) {
  if (!flags.draft.given()) return;
  for (ModelSource& model : models) {
    if (!flags.draft.lookup && &model != &models.front()) break;
    model.drafts = [draft = flags.draft, engine = flags.engine, answers = flags.parallel](const Checkpoint& target) {
      return [source = std::make_shared<const DraftSource>(draft, target, engine, answers)](GenerateOptions& options) {
        source->give(options);
      };
    };
  }
}

ServerOptions server_options(const ServeFlags& flags) {
  ServerOptions options;
  options.listener.host = flags.host.empty() ? kDefaultHost : flags.host;
  options.listener.port = flags.port;
  options.listener.unix_path = flags.unix_path;
  options.listener.certificate = flags.certificate;
  options.listener.key = flags.tls_key;
  options.listener.most_body_bytes = static_cast<std::size_t>(flags.body_megabytes) << 20;
  options.access.hosts = flags.hosts;
  options.access.origins = flags.origins;
  options.access.requests_per_minute = flags.rate;
  if (!flags.key_file.empty()) read_keys(flags.key_file, options.access);
  if (std::string key = environment("PUNA_API_KEY"); !key.empty()) options.access.manage_keys.push_back(std::move(key));
  options.registry = registry_options(flags);
  options.store = store_options();
  options.models = sources(flags, options.store.root);
  add_adapters(flags.adapters, options.models);
  add_drafts(flags, options.models);
  options.sampler = sampler_options(flags.sampler);
  options.most_in_flight = flags.most_in_flight > 0 ? flags.most_in_flight : 4 * flags.parallel + 64;
  options.drain_time = std::chrono::seconds(flags.drain);
  options.runs = flags.runs;
  options.votes = flags.votes;
  options.date = flags.date;
  options.version = PUNA_VERSION;
  return options;
}

void take_environment(ServeFlags& flags) {
  const std::string host = environment("PUNA_HOST");
  if (host.empty()) return;
  const ServerAddress address = parse_server_address(host, "PUNA_HOST");
  if (!address.unix_path.empty() && flags.unix_path.empty() && flags.host.empty()) flags.unix_path = address.unix_path;
  if (flags.host.empty()) flags.host = address.host;
  if (!flags.given["--port"]) flags.port = address.port;
}

void serve(const Command& command, ServeFlags& flags) {
  if (!flags.config.empty()) apply_config_file(command, flags.config, flags.given);
  take_environment(flags);
  const ServerOptions options = server_options(flags);
  const InterruptScope scope(SecondPress::kIgnored);
  Server server(options);
  if (!flags.models.empty()) server.load_first();  // what is wrong with it is said here, and not to the first client
  server.start();
  std::string names;
  for (const ModelSource& source : options.models) names += (names.empty() ? "" : ", ") + source.id;
  write_text(fmt::format("{}\n", server.url()));
  write_note(fmt::format("puna {}: {} — Ctrl-C ends it", PUNA_VERSION, names));
  const std::int64_t cut = server.run([] { return interrupt_flag().load(); }, [] { return interrupted_twice(); });
  if (cut > 0) write_note(fmt::format("puna: {} answers were cut off", cut));
}

void add_network_flags(Command& command, ServeFlags& flags) {
  command.flag("--host", "ADDRESS", &flags.host, "where to listen (default 127.0.0.1; also PUNA_HOST as HOST:PORT)");
  command.flag("--port", "N", &flags.port, fmt::format("the port (default {}; 0: any that is free)", kDefaultPort)).range = {0,
                                                                                                                             65535};
  command.flag("--unix", "PATH", &flags.unix_path, "listen on a Unix socket instead");
  command.flag("--api-key-file", "FILE", &flags.key_file,
               "keys, one on a line; \"infer KEY\" may ask models only (also PUNA_API_KEY, one key)");
  command.flag("--allow-host", "NAME", &flags.hosts, "a name that requests may call this server by; may be repeated");
  command.flag("--allow-origin", "ORIGIN", &flags.origins, "pages from there may call this server; may be repeated");
  command.flag("--rate", "N", &flags.rate, "requests of one client in a minute (default: no limit)").range = {0, 1'000'000};
  command.flag("--tls-cert", "FILE", &flags.certificate, "certificate chain in PEM form: TLS");
  command.flag("--tls-key", "FILE", &flags.tls_key, "its key");
  command.flag("--max-body", "MB", &flags.body_megabytes, "megabytes of one request (default 16)").range = {1, 1024};
}

}  // namespace

VerbAction declare_serve(Command& command) {
  const auto flags = std::make_shared<ServeFlags>();
  command.positional(
      "MODEL", &flags->models,
      "models, or NAME=MODEL; the first is the one that is meant where a request names none (default: all in the cache, and nano)");
  add_network_flags(command, *flags);
  command.flag("--parallel", "N", &flags->parallel, "answers of one model written at once (default 16)").range = {1, 256};
  command.flag("--batch-invariant", &flags->batch_invariant,
               "an answer is bit for bit what it is alone, whoever is answered beside it; at most 7 at once");
  command
      .flag("--max-in-flight", "N", &flags->most_in_flight,
            "answers taken at once; who asks for more is told to come again (default: 4 for each of --parallel, and 64)")
      .range = {0, 1'000'000};
  command.flag(
      "--adapter", "NAME=FOLDER", &flags->adapters,
      "LoRA adapters for requests to the model \"MODEL:NAME\"; of another than the first: MODEL:NAME=FOLDER; may be repeated");
  add_draft_flags(command, flags->draft);
  command.flag("--memory", "MB", &flags->memory_megabytes, "of all loaded models together (default: what the machine leaves)")
      .range = {0, std::int64_t{1} << 30};
  command.flag("--keep-alive", "SECONDS", &flags->keep_alive, "an idle model is unloaded after so long (default: never)").range = {
      -1, 1'000'000'000};
  command.flag("--drain", "SECONDS", &flags->drain, "that answers get to end when the server is stopped (default 30)").range = {
      0, 86400};
  command.flag("--runs", "FOLDER", &flags->runs, "show the training runs in this folder on the page");
  command.flag("--date", "DATE", &flags->date, "the date that the chat format mentions (default: today's, as 26 Jul 2024)");
  command.flag("--votes", "FILE", &flags->votes, "keep the page's votes on answers in this file, as preference pairs");
  command.flag("--config", "FILE", &flags->config, "flags as YAML: \"port: 8080\"; those on the command line come first");
  add_sampler_flags(command, flags->sampler);
  add_engine_flags(command, flags->engine);
  for (Flag& flag : command.flags) {
    if (!flag.positional && flag.given == nullptr) flag.given = &flags->given[flag.names.back()];
  }
  return [flags, declared = command] { serve(declared, *flags); };
}

}  // namespace puna
