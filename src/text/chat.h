// SPDX-License-Identifier: Apache-2.0
// A conversation, and how it is written for a model. Sources: llama-models `chat_format.py` and `tool_utils.py`, the Llama 3.1
// launch templates, the Hugging Face chat template of Llama 3.1 and 3.2, Llama 2's `generation.py`.
// Special tokens come from the frame only; every piece of content is encoded as plain text.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "text/token.h"

namespace puna {

class Tokenizer;

struct ToolCall {
  std::string name;  // "code_interpreter" for bare code after <|python_tag|>
  Json arguments;    // an object
  std::string id;    // the client's, or empty
};

struct Tool {
  std::string name, description;
  Json parameters;  // JSON schema of the arguments object
};

enum class Role { kSystem, kUser, kAssistant, kTool };

struct Message {
  Role role = Role::kUser;
  std::string content;
  std::vector<ToolCall> tool_calls;  // assistant only
  std::string tool_call_id;          // tool only
};

// How tools are shown to the model and how it answers (reference: shared notes "the three dialects" and pythonic).
enum class ToolDialect {
  kFunctionTag,    // <function=name>{…}</function>
  kPythonTagJson,  // <|python_tag|>{"type":"function","name":…,"parameters":{…}}
  kBareJson,       // {"name":…,"parameters":{…}}: Hugging Face's template, the default of 3.1
  kPythonic,       // [f(a="x"), g()]: 3.2 and later
};

enum class Frame { kLlama3, kLlama2 };

struct PromptFormat {
  std::string name;  // one of prompt_format_names(): what --format takes
  Frame frame = Frame::kLlama3;
  ToolDialect dialect = ToolDialect::kBareJson;
  bool tools_in_system = false;  // kBareJson: in the first user message (Hugging Face's default) or in the system message
  bool always_system = true;     // Hugging Face's 3.1 and 3.2 templates write the dates even without a system message
  bool trim_content = true;      // Hugging Face trims, Meta's ChatFormat does not
  std::string cutoff = "December 2023";
  std::string source;  // where this choice comes from: "chat_template in tokenizer_config.json", "default for …"
};

struct PromptOptions {
  std::vector<Tool> tools;
  std::vector<std::string> builtin_tools;  // "brave_search", "wolfram_alpha", "code_interpreter"
  std::string date;                        // "26 Jul 2024"; empty leaves the dates out
  bool generation_prompt = true;           // end with the assistant's header
};

// Of this day, for PromptOptions::date: "26 Jul 2024", in English whatever the locale, as the models were trained on it.
std::string today();

// Text between, and names of, special tokens, in order. What `puna prompt-format` shows.
struct PromptPiece {
  bool special = false;
  std::string text;
  // The assistant's message, by its place in the conversation, that writes this: its content and calls, and the token that ends
  // its turn, but not its header. That is what a model is trained to write. -1: everyone else's words, and the frame.
  int author = -1;
  bool joined = false;  // a text that is encoded as one with the text before it
};

// Throws kUsage for a conversation the format cannot hold (a tool result with no call before it, …).
std::vector<PromptPiece> render_prompt(const PromptFormat& format, std::span<const Message> messages, const PromptOptions& options);
std::vector<Token> encode_prompt(const Tokenizer& tokenizer, std::span<const PromptPiece> pieces);
// The same tokens, and each one's author. In joined texts a token belongs to the piece that its first byte lies in.
struct AuthoredTokens {
  std::vector<Token> tokens;  // [T]
  std::vector<int> authors;   // [T] PromptPiece::author
};
AuthoredTokens encode_authors(const Tokenizer& tokenizer, std::span<const PromptPiece> pieces);
std::string prompt_text(std::span<const PromptPiece> pieces);

// The dialect of a file's own Jinja template, or nullopt where it is not one of those known here.
std::optional<PromptFormat> recognise_template(std::string_view jinja);
std::optional<PromptFormat> prompt_format_from_name(std::string_view name);  // "llama3.1", "llama3.1-meta", "llama3.2", "llama2", …
std::vector<std::string_view> prompt_format_names();
// "llama3.2, Hugging Face's template of Llama 3.2", and what it does unlike the format of that name.
std::string describe(const PromptFormat& format);

// What an assistant's raw text (special tokens included, as decode(…, true) gives it) says: content and calls.
// Handles nested JSON, quotes, "arguments" for "parameters", text before the call and several calls; text that only looks like a
// call stays content. `tools` are the names that exist; a bare JSON object counts as a call only if it names one (or if empty).
Message parse_assistant(const PromptFormat& format, std::string_view raw, std::span<const Tool> tools,
                        std::span<const std::string> builtin_tools = {});

}  // namespace puna
