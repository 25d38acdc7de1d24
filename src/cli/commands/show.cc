// SPDX-License-Identifier: Apache-2.0
// `puna show`: what a model is and what running it takes, here or on GPUs that are elsewhere. Reads headers only: a 400 GB model is
// shown as fast as a small one, and a known shape without any file.
#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/progress.h"
#include "cli/flags.h"
#include "cli/gpu_table.h"
#include "cli/output.h"
#include "cli/random_model.h"
#include "cli/verb.h"

namespace puna {
namespace {

struct ShowFlags {
  std::string model, shape, type = "bf16", kv = "f16", gpus, gpu_memory = "80GB";
  std::int64_t context = 0;
  int pipeline = 1;
  bool tensors = false, json = false, type_given = false, memory_given = false;
};

std::string_view container(CheckpointKind kind) {
  switch (kind) {
    case CheckpointKind::kGguf:
      return "GGUF";
    case CheckpointKind::kHuggingFace:
      return "Hugging Face folder";
    case CheckpointKind::kMeta:
      return "Meta folder";
    case CheckpointKind::kMemory:
      return "memory";
  }
  return "";
}

// Every stored tensor once: a tied output matrix is the embedding again and is left out.
std::vector<const Tensor*> stored_tensors(const Checkpoint& checkpoint) {
  std::vector<const Tensor*> tensors;
  for (const WeightRoleInfo& row : weight_roles()) {
    if (row.role == WeightRole::kOutput && checkpoint.config.tied_embeddings) continue;
    for (std::int64_t layer = 0; layer < (row.per_layer ? checkpoint.config.layers : 1); ++layer) {
      tensors.push_back(&checkpoint.weights.at(row.role, layer));
    }
  }
  return tensors;
}

struct FormatUse {
  std::int64_t tensors = 0, bytes = 0;
};

std::map<std::string, FormatUse> format_use(const Checkpoint& checkpoint) {
  std::map<std::string, FormatUse> use;
  for (const Tensor* tensor : stored_tensors(checkpoint)) {
    FormatUse& row = use[std::string(info(tensor->format).name)];
    ++row.tensors;
    row.bytes += static_cast<std::int64_t>(tensor->bytes.size() + tensor->row_scales.size());
  }
  return use;
}

std::int64_t planned_context(const Checkpoint& checkpoint, const ShowFlags& flags) {
  constexpr std::int64_t kDefaultContext = 8192;
  return flags.context > 0 ? flags.context : std::min(checkpoint.config.context, kDefaultContext);
}

MemoryPlan memory_plan(const Checkpoint& checkpoint, const ShowFlags& flags) {
  RunShape run;
  run.kv_format = kv_format(flags.kv);
  run.context = planned_context(checkpoint, flags);
  run.resident_bytes = checkpoint.resident_bytes;
  return plan_memory(checkpoint.config, checkpoint.weight_bytes, run);
}

Json config_to_json(const ModelConfig& c) {
  Json value = {{"layers", c.layers},         {"width", c.width},
                {"heads", c.heads},           {"kv_heads", c.kv_heads},
                {"head_width", c.head_width}, {"feed_forward", c.feed_forward},
                {"vocabulary", c.vocabulary}, {"context", c.context},
                {"norm_eps", c.norm_eps},     {"tied_embeddings", c.tied_embeddings}};
  value["rope"] = {{"theta", c.rope_theta},
                   {"pairing", c.rope_pairing == RopePairing::kNeighbours ? "neighbours" : "halves"},
                   {"linear_factor", c.rope_linear_factor},
                   {"divisors_in_file", !c.rope_divisors.empty()}};
  if (c.rope_scaling) {
    value["rope"]["scaling"] = {{"factor", c.rope_scaling->factor},
                                {"low_frequency_factor", c.rope_scaling->low_frequency_factor},
                                {"high_frequency_factor", c.rope_scaling->high_frequency_factor},
                                {"original_context", c.rope_scaling->original_context}};
  }
  return value;
}

Json tokenizer_to_json(const Tokenizer& tokenizer) {
  Json ends = Json::array();
  for (const Token token : tokenizer.end_tokens()) ends.push_back(id(token));
  return {{"kind", tokenizer.kind()},
          {"size", tokenizer.size()},
          {"special_tokens", tokenizer.specials().size()},
          {"bos", tokenizer.bos() ? Json(id(*tokenizer.bos())) : Json()},
          {"adds_bos", tokenizer.adds_bos()},
          {"end_tokens", ends}};
}

Json to_json(const Checkpoint& checkpoint, const ShowFlags& flags) {
  Json value = {{"name", checkpoint.config.name},
                {"family", "llama"},
                {"container", container(checkpoint.kind)},
                {"parameters", checkpoint.config.parameters()},
                {"weight_bytes", checkpoint.weight_bytes}};
  for (const auto& [name, use] : format_use(checkpoint)) value["formats"][name] = {{"tensors", use.tensors}, {"bytes", use.bytes}};
  value["config"] = config_to_json(checkpoint.config);
  value["tokenizer"] = checkpoint.tokenizer ? tokenizer_to_json(*checkpoint.tokenizer) : Json();
  value["prompt_format"] = nullptr;
  if (checkpoint.prompt_format) {
    const PromptFormat& format = *checkpoint.prompt_format;
    value["prompt_format"] = {{"name", format.name}, {"description", describe(format)}, {"source", format.source}};
  }
  value["has_chat_template"] = !checkpoint.chat_template.empty();
  value["files"] = Json::array();
  for (const auto& file : checkpoint.files) value["files"].push_back(file.string());
  value["memory"] = plan_to_json(memory_plan(checkpoint, flags));
  if (!flags.tensors) return value;
  value["tensors"] = Json::array();
  for (const Tensor* tensor : stored_tensors(checkpoint)) {
    Json shape = Json::array();
    for (int axis = 0; axis < tensor->shape.rank(); ++axis) shape.push_back(tensor->shape[axis]);
    value["tensors"].push_back(
        {{"name", tensor->name}, {"format", info(tensor->format).name}, {"shape", shape}, {"bytes", tensor->bytes.size()}});
  }
  return value;
}

std::string rope_text(const ModelConfig& c) {
  std::string text =
      fmt::format("theta {:g}, {} paired", c.rope_theta, c.rope_pairing == RopePairing::kNeighbours ? "neighbours" : "halves");
  if (c.rope_scaling)
    text += fmt::format(", Llama 3.1 scaling by {:g} from {}", c.rope_scaling->factor, c.rope_scaling->original_context);
  if (!c.rope_divisors.empty()) text += ", frequency divisors in the file";
  if (c.rope_linear_factor != 1) text += fmt::format(", positions divided by {:g}", c.rope_linear_factor);
  return text;
}

std::string tokenizer_text(const Tokenizer* tokenizer) {
  if (tokenizer == nullptr) return "none: token ids only";
  std::string ends;
  for (const Token token : tokenizer->end_tokens()) ends += (ends.empty() ? "" : ", ") + tokenizer->piece(token, true);
  return fmt::format("{}, {} tokens, {} special; ends: {}", tokenizer->kind(), tokenizer->size(), tokenizer->specials().size(),
                     ends);
}

std::string prompt_format_text(const Checkpoint& checkpoint) {
  if (checkpoint.prompt_format) return describe(*checkpoint.prompt_format) + " (" + checkpoint.prompt_format->source + ")";
  return checkpoint.chat_template.empty() ? "none" : "the file's own template, which is not known here: use --format or --raw";
}

std::string count_text(std::int64_t count) {
  const auto value = static_cast<double>(count);
  if (value >= 1e9) return fmt::format("{:.2f} billion", value / 1e9);
  return value >= 1e6 ? fmt::format("{:.1f} million", value / 1e6) : std::to_string(count);
}

void print_text(const Checkpoint& checkpoint, const ShowFlags& flags) {
  const ModelConfig& c = checkpoint.config;
  const auto row = [](std::string_view label, const std::string& value) { return fmt::format("{:<14} {}\n", label, value); };
  std::string formats;
  for (const auto& [name, use] : format_use(checkpoint)) {
    const std::string size = human_bytes(static_cast<std::uint64_t>(use.bytes));
    formats += fmt::format("{}{} x {} ({})", formats.empty() ? "" : ", ", use.tensors, name, size);
  }
  std::string text = row("name", c.name) + row("family", "Llama") + row("container", std::string(container(checkpoint.kind)));
  text += row("parameters", count_text(c.parameters()));
  text += row("weights", human_bytes(static_cast<std::uint64_t>(checkpoint.weight_bytes)) + ": " + formats);
  text += row("shape", fmt::format("{} layers, width {}, {} heads of {}, {} key/value heads, feed-forward {}", c.layers, c.width,
                                   c.heads, c.head_width, c.kv_heads, c.feed_forward));
  text += row("vocabulary", fmt::format("{}{}", c.vocabulary, c.tied_embeddings ? ", output tied to the embedding" : ""));
  text += row("context", std::to_string(c.context)) + row("RoPE", rope_text(c));
  text += row("tokenizer", tokenizer_text(checkpoint.tokenizer.get())) + row("prompt format", prompt_format_text(checkpoint));
  for (const auto& file : checkpoint.files) text += row("file", file.string());
  text += "\n" + memory_plan(checkpoint, flags).text();
  if (!text.ends_with('\n')) text += "\n";
  for (const Tensor* tensor : flags.tensors ? stored_tensors(checkpoint) : std::vector<const Tensor*>{}) {
    text += fmt::format("{:<48} {:<8} {}\n", tensor->name, info(tensor->format).name, tensor->shape.text());
  }
  write_text(text);
}

void show_gpus(const Checkpoint& checkpoint, const ShowFlags& flags) {
  const GpuQuestion question{.gpus = gpu_counts(flags.gpus),
                             .stages = flags.pipeline,
                             .memory = memory_size(flags.gpu_memory),
                             .kv_format = kv_format(flags.kv),
                             .context = planned_context(checkpoint, flags)};
  if (flags.json) return write_json(gpu_table_json(checkpoint, question));
  write_text(gpu_table_text(checkpoint, question));
}

// What would change nothing is refused.
void check_flags(const ShowFlags& flags) {
  if (flags.model.empty() == flags.shape.empty()) fail(ErrorKind::kUsage, "show", "give a MODEL, or --shape with --type");
  if (flags.type_given && flags.shape.empty())
    fail(ErrorKind::kUsage, "--type", "is for --shape: a MODEL is shown in the formats that it has");
  const bool of_gpus = !flags.gpus.empty() || !flags.shape.empty();
  if (flags.tensors && of_gpus) fail(ErrorKind::kUsage, "--tensors", "is for a MODEL without --gpus: leave one of them out");
  if (of_gpus) return;
  if (flags.memory_given) fail(ErrorKind::kUsage, "--gpu-memory", "is for --gpus: give that too, as in --gpus 1,2,4,8");
  if (flags.pipeline > 1) fail(ErrorKind::kUsage, "--pipeline", "is for --gpus: give that too, as in --gpus 1,2,4,8");
}

void show(ShowFlags flags) {
  check_flags(flags);
  if (!flags.shape.empty()) {
    if (flags.gpus.empty()) flags.gpus = "1,2,4,8";
    return show_gpus(*outline_model(shape_of_flag(flags.shape), flags.type), flags);
  }
  const auto checkpoint = open_model(flags.model);
  if (!flags.gpus.empty()) return show_gpus(*checkpoint, flags);
  if (flags.json) return write_json(to_json(*checkpoint, flags));
  print_text(*checkpoint, flags);
}

}  // namespace

VerbAction declare_show(Command& command) {
  const auto flags = std::make_shared<ShowFlags>();
  command.positional("MODEL", &flags->model,
                     "a GGUF file, a model folder, a name in the cache, or nano, the model inside the program");
  command.flag("--tensors", &flags->tensors, "list the tensors");
  command.flag("-c,--context", "N", &flags->context, "positions to plan memory for (default: the model's own, at most 8192)")
      .range = {0, std::int64_t{1} << 40};
  command.flag("--kv", "f32|f16|bf16|q8_0|f8_e4m3", &flags->kv, "format of cached keys and values to plan for (default f16)");
  command.flag("--gpus", "LIST", &flags->gpus, "instead: what each GPU holds where the model is split over so many, as in 1,2,4,8");
  command.flag("--gpu-memory", "SIZE", &flags->gpu_memory, "of one GPU, as in 80GB, the default, or 79GiB").given =
      &flags->memory_given;
  add_pipeline(command, flags->pipeline);
  command.flag("--shape", "1b|3b|8b|70b|405b", &flags->shape, "instead of MODEL, for --gpus: this Llama's shape");
  command.flag("--type", "TYPE", &flags->type, "what the weights of --shape are stored as, as in puna quantize (default bf16)")
      .given = &flags->type_given;
  add_json(command, flags->json);
  return [flags] { show(*flags); };
}

}  // namespace puna
