// SPDX-License-Identifier: Apache-2.0
// Llama 3's chat frame: <|begin_of_text|>, then <|start_header_id|>role<|end_header_id|>\n\ncontent<|eot_id|> per message. Two
// houses write it differently: Hugging Face's templates trim contents, quote tool results as JSON strings and hold one call per
// message; Meta's ChatFormat does none of that. What surprises: tools may stand in the user's message.
#include <algorithm>

#include "base/error.h"
#include "text/prompt_writer.h"
#include "text/python_text.h"
#include "text/tool_prompt.h"
#include "text/unicode.h"

namespace puna {
namespace {

bool is_hugging_face(const PromptFormat& format) { return format.dialect == ToolDialect::kBareJson; }

std::string_view header_name(Role role) {
  switch (role) {
    case Role::kSystem:
      return "system";
    case Role::kUser:
      return "user";
    case Role::kAssistant:
      return "assistant";
    case Role::kTool:
      break;
  }
  return "ipython";
}

void write_header(PromptWriter& writer, std::string_view role) {
  writer.special("<|start_header_id|>");
  writer.text(role);
  writer.special("<|end_header_id|>");
  writer.text("\n\n");
}

void write_message(PromptWriter& writer, std::string_view role, std::string_view content, int author = -1) {
  write_header(writer, role);
  writer.set_author(author);
  writer.text(content);
  writer.special("<|eot_id|>");
  writer.set_author(-1);
}

std::string_view content_of(const PromptFormat& format, const Message& message) {
  return format.trim_content ? strip_space(message.content) : std::string_view(message.content);
}

std::string dates(const PromptFormat& format, const PromptOptions& options) {
  return "Cutting Knowledge Date: " + format.cutoff + "\nToday Date: " + options.date + "\n";
}

std::string_view strip_line_ends(std::string_view text) {
  while (text.starts_with('\n')) text.remove_prefix(1);
  while (text.ends_with('\n')) text.remove_suffix(1);
  return text;
}

// Environment, dates, tools where they belong here, and the user's own system message.
std::string system_text(const PromptFormat& format, const Message* system, const PromptOptions& options) {
  const bool has_tools = !options.tools.empty() || !options.builtin_tools.empty();
  const std::string_view own = system == nullptr ? std::string_view() : content_of(format, *system);
  if (is_hugging_face(format)) {
    std::string text = environment_text(format, options.tools, options.builtin_tools);
    if (!options.date.empty() && (format.always_system || has_tools)) text += dates(format, options) + "\n";
    if (format.tools_in_system && !options.tools.empty()) text += tools_text(format, options.tools);
    return text.append(own);
  }
  if (format.dialect == ToolDialect::kPythonic) {
    std::string text = environment_text(format, {}, options.builtin_tools);
    if (!options.tools.empty()) text += tools_text(format, options.tools) + "\n";
    text += own;
    return has_tools ? std::string(strip_line_ends(text)) : text;
  }
  std::string text = environment_text(format, options.tools, options.builtin_tools);
  const bool dated = !options.date.empty() && (format.always_system || has_tools || system != nullptr);
  if (dated) text += dates(format, options);
  if (!own.empty()) text += dated ? "\n" + std::string(own) : std::string(own);
  return has_tools || dated ? std::string(strip_line_ends(text)) : text;
}

void write_calls(PromptWriter& writer, const PromptFormat& format, const Message& message, const PromptOptions& options) {
  if (!is_hugging_face(format)) writer.text(content_of(format, message));  // Hugging Face's templates drop it
  const bool builtin = is_builtin_tool(message.tool_calls.front().name, options.builtin_tools);
  if (format.dialect == ToolDialect::kPythonic && !builtin) {
    writer.text(write_pythonic_calls(message.tool_calls));
    return writer.special("<|eot_id|>");
  }
  const WrittenCall call = write_call(format, message.tool_calls.front(), options.builtin_tools);
  if (call.python_tag) writer.special("<|python_tag|>");
  writer.text(call.text);
  writer.special(call.end_of_message ? "<|eom_id|>" : "<|eot_id|>");
}

// The results that answer `message`: those that follow it directly.
std::size_t count_results(std::span<const Message> messages, std::size_t after) {
  std::size_t count = 0;
  while (after + 1 + count < messages.size() && messages[after + 1 + count].role == Role::kTool) ++count;
  return count;
}

bool holds_several_calls(const PromptFormat& format, const Message& message, const PromptOptions& options) {
  return format.dialect == ToolDialect::kPythonic &&
         std::none_of(message.tool_calls.begin(), message.tool_calls.end(),
                      [&](const ToolCall& call) { return is_builtin_tool(call.name, options.builtin_tools); });
}

// A message, and which of the conversation's it is.
struct Turn {
  Message message;
  int index;
};

// A message with several calls becomes one message per call, each followed by its own result (matched by id, else by order): all
// dialects but the pythonic one hold a single call.
std::vector<Turn> with_single_calls(const PromptFormat& format, std::span<const Message> messages, const PromptOptions& options,
                                    int first) {
  std::vector<Turn> turns;
  const auto add = [&](Message message, std::size_t at) { turns.push_back({std::move(message), first + static_cast<int>(at)}); };
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const Message& message = messages[i];
    if (message.tool_calls.size() < 2 || holds_several_calls(format, message, options)) {
      add(message, i);
      continue;
    }
    const std::size_t results = count_results(messages, i);
    std::vector<bool> used(results, false);
    for (std::size_t c = 0; c < message.tool_calls.size(); ++c) {
      const ToolCall& call = message.tool_calls[c];
      add({Role::kAssistant, c == 0 ? message.content : std::string(), {call}, {}}, i);
      std::size_t match = results;
      for (std::size_t r = 0; r < results && match == results; ++r) {
        if (!used[r] && !call.id.empty() && messages[i + 1 + r].tool_call_id == call.id) match = r;
      }
      for (std::size_t r = 0; r < results && match == results; ++r) {
        if (!used[r] && (call.id.empty() || messages[i + 1 + r].tool_call_id.empty())) match = r;
      }
      if (match == results) continue;
      used[match] = true;
      add(messages[i + 1 + match], i + 1 + match);
    }
    for (std::size_t r = 0; r < results; ++r) {
      if (!used[r]) add(messages[i + 1 + r], i + 1 + r);
    }
    i += results;
  }
  return turns;
}

void check(std::span<const Message> messages) {
  bool called = false;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    if (!messages[i].tool_calls.empty() && messages[i].role != Role::kAssistant) {
      fail(ErrorKind::kUsage, "prompt", "message {} calls tools, which only an assistant's message may do", i + 1);
    }
    called = called || !messages[i].tool_calls.empty();
    if (messages[i].role == Role::kTool && !called) {
      fail(ErrorKind::kUsage, "prompt", "message {} is a tool's result, but no message before it calls a tool", i + 1);
    }
  }
}

void write_one(PromptWriter& writer, const PromptFormat& format, const Turn& turn, const PromptOptions& options) {
  const Message& message = turn.message;
  if (!message.tool_calls.empty()) {
    write_header(writer, "assistant");
    writer.set_author(turn.index);
    write_calls(writer, format, message, options);
    return writer.set_author(-1);
  }
  if (message.role == Role::kTool) {
    // Jinja counts strings among the iterables, so Hugging Face's `tojson` quotes them: the model has seen them so.
    return write_message(writer, "ipython", is_hugging_face(format) ? python_json(message.content) : message.content);
  }
  write_message(writer, header_name(message.role), content_of(format, message), message.role == Role::kAssistant ? turn.index : -1);
}

}  // namespace

std::vector<PromptPiece> render_llama3(const PromptFormat& format, std::span<const Message> messages,
                                       const PromptOptions& options) {
  check(messages);
  PromptWriter writer(format.trim_content);
  writer.special("<|begin_of_text|>");
  const std::size_t all = messages.size();
  const Message* system = messages.front().role == Role::kSystem ? &messages.front() : nullptr;
  if (system != nullptr) messages = messages.subspan(1);
  const std::string text = system_text(format, system, options);
  if (!text.empty() || system != nullptr) write_message(writer, "system", text);

  const bool in_user =
      !options.tools.empty() && format.dialect != ToolDialect::kPythonic && !(is_hugging_face(format) && format.tools_in_system);
  if (in_user && is_hugging_face(format)) {
    if (messages.empty() || messages.front().role != Role::kUser) {
      fail(ErrorKind::kUsage, "prompt",
           "the tools belong into the first user message, but the conversation does not begin with one");
    }
    write_message(writer, "user", tools_text(format, options.tools) + std::string(content_of(format, messages.front())));
    messages = messages.subspan(1);
  } else if (in_user) {
    write_message(writer, "user", tools_text(format, options.tools));
  }
  const int first = static_cast<int>(all - messages.size());
  for (const Turn& turn : with_single_calls(format, messages, options, first)) write_one(writer, format, turn, options);
  if (options.generation_prompt) write_header(writer, "assistant");
  return writer.take();
}

}  // namespace puna
