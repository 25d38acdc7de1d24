// SPDX-License-Identifier: Apache-2.0
// The prompt formats by name, and the recognition of a checkpoint's own Jinja template by the sentences it holds. Templates are
// never run: one that is not known here is reported as unknown, not guessed at.
#include <array>

#include "text/chat.h"

namespace puna {
namespace {

struct NamedFormat {
  std::string_view name;
  Frame frame;
  ToolDialect dialect;
  bool always_system, trim_content;
  std::string_view what;
};

constexpr std::array<NamedFormat, 8> kFormats = {{
    {"llama3.1", Frame::kLlama3, ToolDialect::kBareJson, true, true, "Hugging Face's template of Llama 3.1"},
    {"llama3.1-meta", Frame::kLlama3, ToolDialect::kPythonTagJson, false, false,
     "Meta's ChatFormat, JSON calls after <|python_tag|>"},
    {"llama3.1-function", Frame::kLlama3, ToolDialect::kFunctionTag, false, false, "Meta's ChatFormat, <function=…> calls"},
    {"llama3.2", Frame::kLlama3, ToolDialect::kBareJson, true, true, "Hugging Face's template of Llama 3.2"},
    {"llama3.2-pythonic", Frame::kLlama3, ToolDialect::kPythonic, false, false, "Meta's ChatFormat, pythonic calls (3.2 and 3.3)"},
    {"llama3.3", Frame::kLlama3, ToolDialect::kBareJson, true, true, "Hugging Face's template of Llama 3.3, the same as 3.1's"},
    {"llama3", Frame::kLlama3, ToolDialect::kBareJson, false, true, "Hugging Face's template of Llama 3: no dates"},
    {"llama2", Frame::kLlama2, ToolDialect::kBareJson, false, true, "Llama 2 chat: [INST] and <<SYS>>"},
}};

PromptFormat build(const NamedFormat& named) {
  PromptFormat format;
  format.name = named.name;
  format.frame = named.frame;
  format.dialect = named.dialect;
  format.always_system = named.always_system;
  format.trim_content = named.trim_content;
  format.source = "the format named " + std::string(named.name);
  return format;
}

bool has(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

// The words between "Cutting Knowledge Date: " and the line end (in Jinja: a written \n) or quote.
std::optional<std::string> cutoff_of(std::string_view jinja) {
  constexpr std::string_view kLabel = "Cutting Knowledge Date: ";
  const std::size_t at = jinja.find(kLabel);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view rest = jinja.substr(at + kLabel.size());
  const std::string_view words = rest.substr(0, rest.find_first_of("\\\"'\n{"));
  if (words.empty() || words.size() > 40) return std::nullopt;
  return std::string(words);
}

std::string_view name_of(std::string_view jinja) {
  if (has(jinja, "[INST]")) return has(jinja, "<<SYS>>") ? "llama2" : "";
  if (!has(jinja, "<|start_header_id|>") || !has(jinja, "<|eot_id|>")) return "";
  if (has(jinja, "You are an expert in composing functions")) return "llama3.2-pythonic";
  if (has(jinja, "tools_in_user_message") && has(jinja, "Cutting Knowledge Date") &&
      has(jinja, "Given the following functions, please respond with a JSON for a function call") &&
      has(jinja, "dictionary of argument name and its value}.")) {
    return has(jinja, "builtin_tools") ? "llama3.1" : "llama3.2";
  }
  if (has(jinja, "tool") || has(jinja, "Cutting Knowledge Date")) return "";  // some other way to show tools or dates
  return "llama3";
}

}  // namespace

std::optional<PromptFormat> prompt_format_from_name(std::string_view name) {
  for (const NamedFormat& named : kFormats) {
    if (named.name == name) return build(named);
  }
  return std::nullopt;
}

std::vector<std::string_view> prompt_format_names() {
  std::vector<std::string_view> names;
  for (const NamedFormat& named : kFormats) names.push_back(named.name);
  return names;
}

std::optional<PromptFormat> recognise_template(std::string_view jinja) {
  const std::string_view name = name_of(jinja);
  auto format = prompt_format_from_name(name);
  if (!format) return std::nullopt;
  if (auto cutoff = cutoff_of(jinja)) format->cutoff = std::move(*cutoff);
  format->tools_in_system = has(jinja, "tools_in_user_message = false");
  if (name == "llama3" && !has(jinja, "trim")) format->trim_content = false;
  format->source = "the chat template, recognised as " + std::string(name);
  return format;
}

std::string describe(const PromptFormat& format) {
  for (const NamedFormat& named : kFormats) {
    if (named.name != format.name) continue;
    const PromptFormat plain = build(named);
    std::string text = format.name + ", " + std::string(named.what);
    if (format.tools_in_system != plain.tools_in_system) text += ", tools in the system message";
    if (format.trim_content != plain.trim_content) text += ", spaces around a message kept";
    if (format.cutoff != plain.cutoff) text += ", knowledge until " + format.cutoff;
    return text;
  }
  return "a format without a name";
}

}  // namespace puna
