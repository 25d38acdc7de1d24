// SPDX-License-Identifier: Apache-2.0
// `puna quantize`: fewer bits per weight, and what they cost: the weights' error always, the predictions' on a text given by
// --text.
#include "quant/quantize.h"

#include <array>
#include <exception>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/progress.h"
#include "cli/flags.h"
#include "cli/input.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/verb.h"
#include "infer/score.h"
#include "quant/output_path.h"
#include "tensor/atomic_file.h"

namespace puna {
namespace {

struct QuantizeFlags {
  std::string in, out, type, text;
  bool force = false, json = false;
  int threads = 0;
  std::int64_t windows = 32;
};

std::string type_names() {
  std::string names;
  for (const QuantType& type : quant_types()) names += (names.empty() ? "" : "|") + std::string(type.name);
  return names;
}

std::string types_help() {
  std::string text = "Types:\n";
  for (const QuantType& type : quant_types()) text += fmt::format("  {:<10} {}\n", type.name, type.about);
  return text;
}

// What the damage is measured on, read before anything is written.
struct Sample {
  std::vector<Token> tokens;
  PerplexityOptions options;
};

Sample read_sample(const Checkpoint& in, const QuantizeFlags& flags) {
  const std::array<std::filesystem::path, 1> inputs{flags.text};
  check_not_read(flags.out, inputs);
  Sample sample{.tokens = in.need_tokenizer().encode(read_file(flags.text)), .options = {}};
  sample.options.window = std::min<std::int64_t>(sample.options.window, in.config.context);
  sample.options.max_windows = flags.windows;
  if (static_cast<std::int64_t>(sample.tokens.size()) < sample.options.window) {
    fail(ErrorKind::kUsage, flags.text, "the text has {} tokens, less than one window of {}: give a longer text",
         sample.tokens.size(), sample.options.window);
  }
  return sample;
}

Divergence measure(const std::shared_ptr<const Checkpoint>& in, const Sample& sample, const QuantizeFlags& flags) {
  const std::shared_ptr<const Checkpoint> out = open_checkpoint(flags.out);
  EngineFlags engine{.threads = flags.threads, .context = sample.options.window};
  Engine base(in, scoring_options(engine, in->config)), other(out, scoring_options(engine, out->config));
  std::optional<ProgressBar> bar;
  return divergence(base, other, sample.tokens, sample.options, [&](std::int64_t done, std::int64_t total, double) {
    stop_if(&interrupt_flag());
    if (!bar) bar.emplace("damage", static_cast<std::uint64_t>(total), "windows");
    bar->set(static_cast<std::uint64_t>(done));
  });
}

// A run that fails, or is interrupted, leaves nothing behind.
Divergence damage(const std::shared_ptr<const Checkpoint>& in, const Sample& sample, const QuantizeFlags& flags) {
  try {
    return measure(in, sample, flags);
  } catch (const std::exception&) {
    remove_output(flags.out);
    throw;
  }
}

void print_json(const QuantizeReport& report, const std::optional<Divergence>& cost, const QuantizeFlags& flags) {
  Json value = {{"path", flags.out},
                {"bytes_in", report.bytes_in},
                {"bytes_out", report.bytes_out},
                {"bits_per_weight", report.bits_per_weight},
                {"seconds", report.seconds},
                {"relative_error", report.relative_error},
                {"notes", report.notes}};
  for (const auto& [format, count] : report.tensors) value["tensors"][std::string(info(format).name)] = count;
  if (cost) {
    value["damage"] = {{"perplexity", cost->other.value}, {"base_perplexity", cost->base.value},
                       {"mean_kl", cost->mean_kl},        {"median_kl", cost->median_kl},
                       {"p99_kl", cost->p99_kl},          {"max_kl", cost->max_kl},
                       {"same_top", cost->same_top},      {"tokens", cost->other.tokens}};
  }
  write_json(value);
}

void print_text(const QuantizeReport& report, const std::optional<Divergence>& cost, const QuantizeFlags& flags) {
  std::string text = fmt::format("{}: {} from {}, {:.2f} bits per weight, in {:.1f} s\n", flags.out,
                                 human_bytes(static_cast<std::uint64_t>(report.bytes_out)),
                                 human_bytes(static_cast<std::uint64_t>(report.bytes_in)), report.bits_per_weight, report.seconds);
  text += "tensors:";
  for (const auto& [format, count] : report.tensors) text += fmt::format(" {} {}", count, info(format).name);
  text += fmt::format("\nerror of the weights: {:.3f} %\n", report.relative_error * 100);
  if (cost) {
    text += fmt::format("perplexity: {:.4f} ± {:.4f}, of the source {:.4f}\n", cost->other.value, cost->other.standard_error,
                        cost->base.value);
    text += fmt::format("KL divergence: mean {:.5f}, 99 % {:.5f} nats; same first token {:.2f} %\n", cost->mean_kl, cost->p99_kl,
                        cost->same_top * 100);
  }
  for (const std::string& note : report.notes) text += "note: " + note + "\n";
  write_text(text);
}

void quantize(const QuantizeFlags& flags) {
  const QuantType& type = quant_type(flags.type);
  if (flags.windows == 0 || flags.windows < -1)
    fail(ErrorKind::kUsage, "--windows", "{} measures nothing: give 1 or more, or -1 for all", flags.windows);
  const std::shared_ptr<const Checkpoint> in = open_model(flags.in);
  std::optional<Sample> sample;
  if (!flags.text.empty()) sample = read_sample(*in, flags);
  const InterruptScope scope(SecondPress::kEndsProcess);
  QuantizeReport report;
  {
    ThreadPool pool(flags.threads);
    report = quantize_checkpoint(pool, *in, flags.out, type, flags.force, &interrupt_flag());
  }
  std::optional<Divergence> cost;
  if (sample) cost = damage(in, *sample, flags);
  if (flags.json)
    print_json(report, cost, flags);
  else
    print_text(report, cost, flags);
}

}  // namespace

VerbAction declare_quantize(Command& command) {
  const auto flags = std::make_shared<QuantizeFlags>();
  command.positional("MODEL", &flags->in, "the model to read").required = true;
  command.positional("OUT", &flags->out, "the file to write, OUT.gguf (a folder for fp8)").required = true;
  command.flag("--type", type_names(), &flags->type, "what to quantize to: see below").required = true;
  command.flag("--force", &flags->force, "overwrite OUT");
  command.flag("--text", "FILE", &flags->text, "measure the damage on this text: perplexity and KL divergence against the source");
  command.flag("--windows", "N", &flags->windows, "at most so many windows of 512 tokens of --text; -1: all (default 32)");
  add_threads(command, flags->threads);
  add_json(command, flags->json);
  command.notes = types_help();
  return [flags] { quantize(*flags); };
}

}  // namespace puna
