// SPDX-License-Identifier: Apache-2.0
// `puna show`: what a model is and what running it takes. Reads headers only: a 400 GB model is shown as fast as a small one.
#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/progress.h"
#include "cli/flags.h"
#include "cli/output.h"
#include "cli/verb.h"

namespace puna {
namespace {

struct ShowFlags {
  std::string model, kv = "f16";
  std::int64_t context = 0;
  bool tensors = false, json = false;
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

MemoryPlan memory_plan(const Checkpoint& checkpoint, const ShowFlags& flags) {
  constexpr std::int64_t kDefaultContext = 8192;
  RunShape run;
  run.kv_format = kv_format(flags.kv);
  run.context = flags.context > 0 ? flags.context : std::min(checkpoint.config.context, kDefaultContext);
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

Json plan_to_json(const MemoryPlan& plan) {
  return {{"context", plan.context},         {"weights", plan.weights}, {"kv", plan.kv},
          {"activations", plan.activations}, {"logits", plan.logits},   {"total", plan.total()},
          {"available", plan.available},     {"fits", plan.fits()},     {"largest_context", plan.largest_context}};
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

}  // namespace

VerbAction declare_show(Command& command) {
  const auto flags = std::make_shared<ShowFlags>();
  add_model(command, flags->model);
  command.flag("--tensors", &flags->tensors, "list the tensors");
  command.flag("-c,--context", "N", &flags->context, "positions to plan memory for (default: the model's own, at most 8192)")
      .range = {0, std::int64_t{1} << 40};
  command.flag("--kv", "f32|f16|q8_0", &flags->kv, "format of cached keys and values to plan for (default f16)");
  add_json(command, flags->json);
  return [flags] {
    const auto checkpoint = open_model(flags->model);
    if (flags->json)
      write_json(to_json(*checkpoint, *flags));
    else
      print_text(*checkpoint, *flags);
  };
}

}  // namespace puna
