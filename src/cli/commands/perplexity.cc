// SPDX-License-Identifier: Apache-2.0
// `puna perplexity`: a text in windows; with --base also how far the predictions are from another form of the model.
#include <cmath>
#include <memory>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/progress.h"
#include "cli/flags.h"
#include "cli/input.h"
#include "cli/output.h"
#include "cli/verb.h"
#include "infer/score.h"

namespace puna {
namespace {

struct PerplexityFlags {
  std::string model, base, file;
  PerplexityOptions options;
  bool json = false;
  EngineFlags engine;
};

// A bar that is begun once the number of windows is known.
WindowProgress window_bar(std::optional<ProgressBar>& bar) {
  return [&bar](std::int64_t done, std::int64_t total, double) {
    if (!bar) bar.emplace("windows", static_cast<std::uint64_t>(total), "windows");
    bar->set(static_cast<std::uint64_t>(done));
  };
}

Json to_json(const Perplexity& value) {
  Json json = {{"perplexity", value.value},
               {"standard_error", value.standard_error},
               {"mean_nll", value.mean_nll},
               {"tokens", value.tokens}};
  if (std::isnan(value.standard_error)) json["standard_error"] = nullptr;
  return json;
}

std::string line(std::string_view label, const Perplexity& value) {
  return fmt::format("{:<14}{:.4f} ± {:.4f}  ({} tokens)\n", label, value.value, value.standard_error, value.tokens);
}

void print_divergence(const Divergence& result, bool json) {
  if (json) {
    Json value = to_json(result.other);
    value["base"] = to_json(result.base);
    value["kl"] = {{"mean", result.mean_kl}, {"median", result.median_kl}, {"p99", result.p99_kl}, {"max", result.max_kl}};
    value["same_top"] = result.same_top;
    return write_json(value);
  }
  write_text(line("perplexity", result.other) + line("of the base", result.base) +
             fmt::format("{:<14}mean {:.6f}, median {:.6f}, 99 % {:.6f}, max {:.6f} nats\n", "KL divergence", result.mean_kl,
                         result.median_kl, result.p99_kl, result.max_kl) +
             fmt::format("{:<14}{:.2f} % of tokens\n", "same first", result.same_top * 100));
}

void check_window(const Checkpoint& checkpoint, std::int64_t window) {
  const std::int64_t most = checkpoint.config.context;
  if (window > most) {
    fail(ErrorKind::kUsage, "--window", "{} tokens are more than the {} that {} was made for: give --window {} or less", window,
         most, checkpoint.where, most);
  }
}

void measure(PerplexityFlags flags) {
  const std::shared_ptr<const Checkpoint> checkpoint = open_model(flags.model);
  check_window(*checkpoint, flags.options.window);
  const Tokenizer& tokenizer = checkpoint->need_tokenizer();
  const std::vector<Token> tokens = tokenizer.encode(flags.file.empty() ? read_standard_input() : read_file(flags.file));
  if (flags.engine.context == 0) flags.engine.context = flags.options.window;
  Engine engine(checkpoint, scoring_options(flags.engine, checkpoint->config));
  std::optional<ProgressBar> bar;
  if (!flags.base.empty()) {
    const std::shared_ptr<const Checkpoint> base = open_model(flags.base);
    check_window(*base, flags.options.window);
    Engine base_engine(base, scoring_options(flags.engine, base->config));
    const Divergence result = divergence(base_engine, engine, tokens, flags.options, window_bar(bar));
    bar.reset();
    return print_divergence(result, flags.json);
  }
  const Perplexity result = perplexity(engine, tokens, flags.options, window_bar(bar));
  bar.reset();
  if (flags.json)
    write_json(to_json(result));
  else
    write_text(line("perplexity", result));
}

}  // namespace

VerbAction declare_perplexity(Command& command) {
  const auto flags = std::make_shared<PerplexityFlags>();
  add_model(command, flags->model);
  command.flag("-f,--file", "FILE", &flags->file, "the text; without it, standard input");
  command.flag("--base", "MODEL", &flags->base,
               "compare with this form of the model: KL divergence, and how often both choose the same token");
  command.flag("--window", "N", &flags->options.window, "tokens per window (default 512)");
  command.flag("--scored-from", "N", &flags->options.scored_from, "first scored position of a window; -1: its middle (default)");
  command.flag("--windows", "N", &flags->options.max_windows, "at most so many windows; -1: all (default)");
  add_json(command, flags->json);
  add_engine_flags(command, flags->engine);
  return [flags] { measure(*flags); };
}

}  // namespace puna
