// SPDX-License-Identifier: Apache-2.0
// `puna load`: how a server answers many at once. Any server that has OpenAI's chat API will do.
#include <memory>
#include <string>

#include "base/error.h"
#include "base/progress.h"
#include "cli/flags.h"
#include "cli/interrupt.h"
#include "cli/load_generator.h"
#include "cli/load_prompts.h"
#include "cli/output.h"
#include "cli/server_client.h"
#include "cli/verb.h"

namespace puna {
namespace {

struct LoadFlags {
  std::string host, prompt_file;
  LoadOptions load;
  LoadPrompts prompts;
  bool json = false;
};

void check(const LoadFlags& flags) {
  if (flags.load.requests <= 0 && flags.load.seconds <= 0)
    fail(ErrorKind::kUsage, "load", "it would never end: give -n REQUESTS or --seconds S");
  if (flags.load.seconds < 0 || flags.load.rate < 0 || flags.load.timeout <= 0)
    fail(ErrorKind::kUsage, "load", "--seconds, --rate and --timeout are no negative numbers");
  if (flags.prompts.shared_prefix > flags.prompts.prompt_tokens)
    fail(ErrorKind::kUsage, "--shared-prefix", "is {}, more than the {} of --prompt-tokens", flags.prompts.shared_prefix,
         flags.prompts.prompt_tokens);
}

// The first of those that the server names: of most servers the only one.
std::string first_model(const ServerClient& client) {
  const Json listed = client.get("/v1/models");
  const auto models = listed.is_object() ? listed.find("data") : listed.end();
  const bool any = models != listed.end() && models->is_array() && !models->empty() && models->front().is_object();
  const auto id = any ? models->front().find("id") : listed.end();
  if (!any || id == models->front().end() || !id->is_string())
    fail(ErrorKind::kNotFound, client.address().url(), "the server lists no models: name one with --model");
  return id->get<std::string>();
}

void load(LoadFlags flags) {
  check(flags);
  if (!flags.prompt_file.empty()) flags.prompts.conversations = read_conversations(flags.prompt_file);
  const ServerClient client(flags.host);
  if (flags.prompts.model.empty()) flags.prompts.model = first_model(client);
  flags.load.address = client.address();
  flags.load.key = client.key();
  flags.load.seed = flags.prompts.seed;
  const InterruptScope scope(SecondPress::kEndsProcess);
  std::vector<LoadSample> samples;
  {
    ProgressBar bar("load", static_cast<std::uint64_t>(flags.load.requests), "requests");
    samples = run_load(flags.load, {.body = [&](std::int64_t index) { return load_body(flags.prompts, index); },
                                    .ended = [&](std::int64_t ended) { bar.set(static_cast<std::uint64_t>(ended)); },
                                    .interrupted = &interrupt_flag()});
  }
  const LoadReport report = summarize(samples);
  Json value = to_json(report);
  value["model"] = flags.prompts.model;
  value["clients"] = flags.load.clients;
  value["interrupted"] = interrupt_flag().load();
  flags.json ? write_json(value) : write_text(to_text(report));
  if (interrupt_flag()) throw Interrupted();
  if (report.answered == 0 && report.failed > 0)
    fail(ErrorKind::kNetwork, flags.load.address.url(), "nothing was answered: {}", report.errors.begin()->first);
}

}  // namespace

VerbAction declare_load(Command& command) {
  const auto flags = std::make_shared<LoadFlags>();
  constexpr std::int64_t kMost = 1'000'000'000;
  command.flag("--host", "ADDRESS", &flags->host,
               "the server: HOST:PORT, a URL or unix:PATH (default: PUNA_HOST, or 127.0.0.1:8080)");
  command.flag("--model", "NAME", &flags->prompts.model, "the model that is asked (default: the first that the server lists)");
  command.flag("-c,--clients", "N", &flags->load.clients, "requests at once (default 1)").range = {1, 10'000};
  command.flag("-n,--requests", "N", &flags->load.requests, "requests in all").range = {1, kMost};
  command.flag("--seconds", "S", &flags->load.seconds, "send none after so long");
  command.flag("--rate", "R", &flags->load.rate,
               "requests due in a second, at random times (default: one whenever a client is free)");
  command
      .flag("--prompt-tokens", "N", &flags->prompts.prompt_tokens, "words of a made-up prompt, about as many tokens (default 128)")
      .range = {1, 10'000'000};
  command.flag("--shared-prefix", "N", &flags->prompts.shared_prefix, "of them the first, the same in all prompts (default 0)")
      .range = {0, 10'000'000};
  command.flag("--prompt-file", "FILE", &flags->prompt_file,
               "prompts instead: lines of {\"messages\": [...]} or {\"prompt\": \"...\"}");
  command.flag("--max-tokens", "N", &flags->prompts.max_tokens, "tokens of an answer at most (default 64)").range = {1, kMost};
  command.flag("--ignore-end", &flags->prompts.ignore_end, "answers go on to --max-tokens (the field \"ignore_eos\")");
  command.flag("--stream", &flags->prompts.stream, "read answers while they are written: also measures the times of tokens");
  command.flag("--timeout", "S", &flags->load.timeout, "seconds that a request may take (default 600)");
  command.flag("--seed", "N", &flags->prompts.seed, "of the made-up prompts and of the times of --rate (default 0)");
  add_json(command, flags->json);
  return [flags] { load(*flags); };
}

}  // namespace puna
