// SPDX-License-Identifier: Apache-2.0
// Flags that several verbs share, declared once. A type name with bars, "f32|f16|q8_0", is what help shows and what the completion
// scripts offer.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "cli/command.h"
#include "infer/engine.h"
#include "infer/sampler.h"
#include "model/checkpoint.h"

namespace puna {

// A MODEL that must be given; where `model` holds a default already, it may be left out.
void add_model(Command& command, std::string& model);
void add_json(Command& command, bool& json);

inline constexpr std::int64_t kGpuChunkRows = 4096;  // of a prompt at once: enough for its matrix units

struct EngineFlags {
  int threads = 0;
  std::int64_t context = 0;
  std::string kv = "f16";
  std::string device = "cpu";
  int pipeline = 1;
};
void add_threads(Command& command, int& threads);
// --threads, --context, --kv, --device and --pipeline; the fields hold the defaults.
void add_engine_flags(Command& command, EngineFlags& flags);
EngineOptions engine_options(const EngineFlags& flags);
// --pipeline, of verbs that run a model or say what running it takes.
void add_pipeline(Command& command, int& stages);
// What --device names (device_choice()); "auto": the first GPU, or the CPU and a note why there is none. Throws kUsage.
DeviceChoice devices_of_flag(std::string_view device);
// "f16" and its like, for --kv. Throws kUsage naming the nearest.
Format kv_format(std::string_view name);
// --type of verbs that make new weights: "f32", "f16" or "bf16", and nothing where it is not given. Throws kUsage for others.
std::optional<Format> float_format(std::string_view name);

// As many rows of logits per step as 64 MB hold, at most one prefill chunk: for verbs that look at every position.
EngineOptions scoring_options(const EngineFlags& flags, const ModelConfig& config);

// One row per number that steers sampling: --<name> on the command line and `/set <name> VALUE` in a chat. What holds where nothing
// is given differs between verbs.
struct SamplerRow {
  std::string_view name, about;
  std::variant<double SamplerOptions::*, int SamplerOptions::*, std::uint64_t SamplerOptions::*> field;
};
std::span<const SamplerRow> sampler_rows();
// Sets one row's option from text; throws kUsage for an unknown name, a malformed number or a value out of range.
void set_sampler_option(SamplerOptions& options, std::string_view name, std::string_view value);

struct SamplerFlags {
  SamplerOptions options;
  std::vector<std::string> logit_bias;
  bool seeded = false;  // --seed was given
};
void add_sampler_flags(Command& command, SamplerFlags& flags);  // the fields hold the defaults
// Checked; a seed that was not given is drawn from the system.
SamplerOptions sampler_options(const SamplerFlags& flags);

// The path behind a MODEL argument (hub_cache.h), opened.
std::shared_ptr<Checkpoint> open_model(const std::string& model);
std::unique_ptr<Tokenizer> open_model_tokenizer(const std::string& model);

}  // namespace puna
