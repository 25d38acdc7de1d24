// SPDX-License-Identifier: Apache-2.0
#include "cli/flags.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <random>
#include <sstream>
#include <system_error>
#include <type_traits>

#include "base/error.h"
#include "base/nearest.h"
#include "base/progress.h"
#include "cli/output.h"
#include "hub/hub_cache.h"
#include "kernels/collective.h"
#include "kernels/gpu.h"

namespace puna {
namespace {

// The whole of `text` as a number of type T.
template <typename T>
T parse_number(std::string_view text, const std::string& flag) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    const char* kind = std::is_floating_point_v<T> ? "a number" : std::is_signed_v<T> ? "a whole number" : "a whole number from 0";
    fail(ErrorKind::kUsage, flag, "'{}' is not {}", text, kind);
  }
  return value;
}

std::pair<Token, double> parse_logit_bias(const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos)
    fail(ErrorKind::kUsage, "--logit-bias", "'{}': expected ID=VALUE, for example 128009=-100", text);
  const std::string_view view = text;
  const auto token = parse_number<std::int32_t>(view.substr(0, equals), "--logit-bias");
  return {static_cast<Token>(token), parse_number<double>(view.substr(equals + 1), "--logit-bias")};
}

// The format of one of `names`. Throws kUsage: '…' is not <what>, expected one of them, and the nearest.
Format format_among(const std::vector<std::string>& names, std::string_view name, const std::string& flag, std::string_view what) {
  if (std::ranges::find(names, name) != names.end()) return *format_from_name(name);
  fail(ErrorKind::kUsage, flag, "'{}' is not {}, expected {}{}", name, what, fmt::join(names, ", "), did_you_mean(name, names));
}

// A bar for weights on their way to the GPU, made when the first of them is there.
LoadProgress show_load_progress() {
  const auto bar = std::make_shared<std::unique_ptr<ProgressBar>>();
  return [bar](std::int64_t done, std::int64_t total) {
    if (*bar == nullptr) *bar = std::make_unique<ProgressBar>("weights to the GPU", static_cast<std::uint64_t>(total), "bytes");
    (*bar)->set(static_cast<std::uint64_t>(done));
    if (done == total) bar->reset();
  };
}

}  // namespace

void add_model(Command& command, std::string& model) {
  const std::string what = "a GGUF file, a model folder, a name in the cache, or nano, the model inside the program";
  command.positional("MODEL", &model, model.empty() ? what : what + " (default " + model + ")").required = model.empty();
}

void add_json(Command& command, bool& json) { command.flag("--json", &json, "print JSON"); }

void add_threads(Command& command, int& threads) {
  command.flag("-t,--threads", "N", &threads, "processor threads; 0: all that this process may use").range = {0, 1024};
}

void add_engine_flags(Command& command, EngineFlags& flags) {
  add_threads(command, flags.threads);
  command.flag("-c,--context", "N", &flags.context, "positions to make room for; 0: the model's own, at most 8192 and what fits")
      .range = {0, std::int64_t{1} << 40};
  command.flag("--kv", "f32|f16|bf16|q8_0|f8_e4m3", &flags.kv,
               "format of cached keys and values (default " + flags.kv + "); q8_0 on the CPU, bf16 and f8_e4m3 on a GPU only");
  command.flag("--device", "cpu|cuda|auto", &flags.device,
               "where the model runs: cuda:N is GPU N, auto the first GPU or else the CPU; cuda:0,1, cuda:0-3, cuda:all and cpu:N "
               "split it over several devices (default " +
                   flags.device + ")");
  add_pipeline(command, flags.pipeline);
}

void add_pipeline(Command& command, int& stages) {
  command
      .flag(
          "--pipeline", "N", &stages,
          "divide the layers into N stages, which share the devices equally and work one behind the other; with as many stages as "
          "devices nothing else is split (default 1)")
      .range = {1, kMostRanks};
}

EngineOptions engine_options(const EngineFlags& flags) {
  EngineOptions options;
  options.threads = flags.threads;
  options.context = flags.context;
  options.kv_format = kv_format(flags.kv);
  options.devices = devices_of_flag(flags.device);
  options.devices.stages = flags.pipeline;
  if (!options.devices.gpus.empty()) {
    options.chunk_rows = kGpuChunkRows;
    options.load_progress = show_load_progress();
  }
  return options;
}

EngineOptions scoring_options(const EngineFlags& flags, const ModelConfig& config) {
  constexpr std::int64_t kLogitBytes = 64 << 20;
  EngineOptions options = engine_options(flags);
  const std::int64_t row_bytes = config.vocabulary * static_cast<std::int64_t>(sizeof(float));
  options.logit_rows = std::clamp<std::int64_t>(kLogitBytes / row_bytes, 1, options.chunk_rows);
  return options;
}

DeviceChoice devices_of_flag(std::string_view device) {
  if (device != "auto") return device_choice(device, "--device");
  const GpuSearch search = find_gpus();
  if (!search.gpus.empty()) return {.gpus = {0}};
  write_note(fmt::format("puna: on the CPU: {}", search.why_none));
  return {};
}

Format kv_format(std::string_view name) {
  return format_among({"f32", "f16", "bf16", "q8_0", "f8_e4m3"}, name, "--kv", "a format of the cache");
}

std::optional<Format> float_format(std::string_view name) {
  if (name.empty()) return std::nullopt;
  return format_among({"f32", "f16", "bf16"}, name, "--type", "a format that new weights can have");
}

std::span<const SamplerRow> sampler_rows() {
  using S = SamplerOptions;
  static const std::array rows = {
      SamplerRow{"temp", "temperature; 0 takes the likeliest token", &S::temperature},
      SamplerRow{"top-k", "draw from the K likeliest tokens; 0: off", &S::top_k},
      SamplerRow{"top-p", "draw from the likeliest tokens that hold this probability; 1: off", &S::top_p},
      SamplerRow{"min-p", "leave out tokens below this share of the likeliest one's probability; 0: off", &S::min_p},
      SamplerRow{"typical", "locally typical sampling, probability kept; 1: off", &S::typical_p},
      SamplerRow{"repeat-penalty", "divide the logits of recent tokens; 1: off", &S::repetition_penalty},
      SamplerRow{"repeat-window", "tokens that the repetition penalty looks back on; -1: all", &S::penalty_window},
      SamplerRow{"presence-penalty", "take from the logits of tokens that were generated before", &S::presence_penalty},
      SamplerRow{"frequency-penalty", "the same, for each time they were", &S::frequency_penalty},
      SamplerRow{"seed", "the same seed gives the same tokens", &S::seed},
  };
  return rows;
}

void set_sampler_option(SamplerOptions& options, std::string_view name, std::string_view value) {
  for (const SamplerRow& row : sampler_rows()) {
    if (row.name != name) continue;
    SamplerOptions changed = options;
    std::visit(
        [&](auto field) {
          using Value = std::remove_reference_t<decltype(changed.*field)>;
          changed.*field = parse_number<Value>(value, std::string(name));
        },
        row.field);
    check_sampler_options(changed);
    options = changed;
    return;
  }
  std::vector<std::string> names;
  for (const SamplerRow& row : sampler_rows()) names.emplace_back(row.name);
  fail(ErrorKind::kUsage, "/set", "there is no setting '{}'{}", name, did_you_mean(name, names));
}

void add_sampler_flags(Command& command, SamplerFlags& flags) {
  for (const SamplerRow& row : sampler_rows()) {
    std::visit(
        [&](auto field) {
          const bool whole = std::is_integral_v<std::remove_reference_t<decltype(flags.options.*field)>>;
          const bool drawn = row.name == "seed";
          const std::string without = drawn ? "(default: drawn)" : fmt::format("(default {})", flags.options.*field);
          Flag& flag = command.flag("--" + std::string(row.name), whole ? "N" : "X", &(flags.options.*field),
                                    std::string(row.about) + " " + without);
          if (drawn) flag.given = &flags.seeded;
        },
        row.field);
  }
  command.flag("--logit-bias", "ID=VALUE", &flags.logit_bias, "add VALUE to the logit of token ID; may be repeated");
}

SamplerOptions sampler_options(const SamplerFlags& flags) {
  SamplerOptions options = flags.options;
  for (const std::string& text : flags.logit_bias) options.logit_bias.push_back(parse_logit_bias(text));
  if (!flags.seeded) options.seed = std::random_device{}();
  check_sampler_options(options);
  return options;
}

std::shared_ptr<Checkpoint> open_model(const std::string& model) { return open_checkpoint(find_model(model)); }

std::unique_ptr<Tokenizer> open_model_tokenizer(const std::string& model) { return open_tokenizer(find_model(model)); }

}  // namespace puna
