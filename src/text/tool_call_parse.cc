// SPDX-License-Identifier: Apache-2.0
// parse_assistant: which parts of an answer are tool calls. Models mix the dialects they were shown, so all of them are looked for,
// whichever the prompt used. Where a call begins is decided by its marker or its place in a line; where it ends by reading it
// properly (a regular expression stops at the first brace). What cannot be read, or names no known tool, stays content untouched.
// One pass: after a candidate that fails, the scan goes on from where reading it stopped.
#include <algorithm>
#include <optional>

#include "base/error.h"
#include "text/call_scan.h"
#include "text/chat.h"
#include "text/json_reader.h"
#include "text/python_calls.h"
#include "text/tool_prompt.h"
#include "text/unicode.h"

namespace puna {
namespace {

constexpr std::string_view kFunctionOpen = "<function=";
constexpr std::string_view kFunctionClose = "</function>";
constexpr std::size_t kLongestName = 200;  // in <function=name>, with what stands around it
constexpr std::string_view kNone = "";

bool is_blank(std::string_view text) { return strip_space(text).empty(); }

class Parser {
 public:
  Parser(std::span<const Tool> tools, std::span<const std::string> builtin_tools) : tools_(tools), builtin_tools_(builtin_tools) {}

  Message parse(std::string_view text);
  std::size_t past_no_call(std::string_view text, std::size_t at);

 private:
  bool is_known(std::string_view name) const {
    if (tools_.empty() && builtin_tools_.empty()) return true;
    return is_builtin_tool(name, builtin_tools_) ||
           std::any_of(tools_.begin(), tools_.end(), [&](const Tool& t) { return t.name == name; });
  }
  std::optional<ToolCall> call_from_json(const Json& value) const;
  std::optional<std::vector<ToolCall>> calls_from_json(const Json& value) const;
  ToolCall as_builtin(ToolCall call) const;

  // Each tries to read calls at `at`; on success appends them and gives the end, else gives where reading stopped in `stopped`.
  std::optional<std::size_t> json_calls(std::string_view text, std::size_t at, std::size_t& stopped);
  std::optional<std::size_t> function_tag(std::string_view text, std::size_t at, std::size_t& stopped);
  std::optional<std::size_t> pythonic_calls(std::string_view text, std::size_t at, std::size_t& stopped);
  std::optional<std::size_t> dotted_call(std::string_view text, std::size_t at, std::size_t& stopped);
  std::optional<std::size_t> call_at(std::string_view text, std::size_t at, std::size_t& stopped);
  std::optional<std::size_t> chain_at(std::string_view text, std::size_t at, std::size_t& stopped);
  bool tagged(std::string_view payload);
  std::string scan(std::string_view text);
  std::string_view without_fence(std::string_view text) const;

  std::span<const Tool> tools_;
  std::span<const std::string> builtin_tools_;
  std::vector<ToolCall> calls_;
};

// The arguments under any of their names: an object, or a string that holds one. nullopt where there is something else.
std::optional<Json> arguments_of(const Json& object) {
  for (const char* key : {"parameters", "arguments", "args"}) {
    if (!object.contains(key)) continue;
    const Json& value = object[key];
    if (value.is_object()) return value;
    if (value.is_null()) return Json::object();
    if (!value.is_string()) return std::nullopt;
    Json inner = Json::parse(value.get_ref<const std::string&>(), nullptr, false);
    return inner.is_object() ? std::optional<Json>(std::move(inner)) : std::nullopt;
  }
  return std::nullopt;
}

std::optional<ToolCall> Parser::call_from_json(const Json& value) const {
  if (!value.is_object()) return std::nullopt;
  const bool wrapped = value.contains("function") && value["function"].is_object();  // as OpenAI's API writes a call
  const Json& object = wrapped ? value["function"] : value;
  const char* key = object.contains("name") ? "name" : "function";
  if (!object.contains(key) || !object[key].is_string()) return std::nullopt;
  ToolCall call{object[key].get<std::string>(), Json::object(), {}};
  if (!is_known(call.name)) return std::nullopt;
  const bool has_arguments = object.contains("parameters") || object.contains("arguments") || object.contains("args");
  auto arguments = arguments_of(object);
  if (has_arguments && !arguments) return std::nullopt;
  // Without arguments only what cannot be anything else: {"name": "a_known_tool"}.
  if (!has_arguments && (object.size() > 1 + (object.contains("type") ? 1 : 0) || (tools_.empty() && builtin_tools_.empty())))
    return std::nullopt;
  if (arguments) call.arguments = std::move(*arguments);
  return as_builtin(std::move(call));
}

// One call, or an array of nothing but calls.
std::optional<std::vector<ToolCall>> Parser::calls_from_json(const Json& value) const {
  std::vector<ToolCall> calls;
  const Json single = value.is_array() ? Json() : Json::array({value});
  const Json& list = value.is_array() ? value : single;
  for (const Json& entry : list) {
    auto call = call_from_json(entry);
    if (!call) return std::nullopt;
    calls.push_back(std::move(*call));
  }
  if (calls.empty()) return std::nullopt;
  return calls;
}

// A built-in tool called in the form of a custom one: its first argument, whatever its name, is what it takes.
ToolCall Parser::as_builtin(ToolCall call) const {
  if (!is_builtin_tool(call.name, builtin_tools_) || call.arguments.empty()) return call;
  const char* key = call.name == "code_interpreter" ? "code" : "query";
  if (!call.arguments.contains(key)) call.arguments = Json{{key, call.arguments.begin().value()}};
  return call;
}

std::optional<std::size_t> Parser::json_calls(std::string_view text, std::size_t at, std::size_t& stopped) {
  JsonReader reader(text, at);
  std::string_view span;
  const bool complete = reader.skip(span);
  stopped = std::max(reader.position(), at + 1);
  if (!complete) return std::nullopt;
  const Json value = Json::parse(span, nullptr, false);
  auto calls = value.is_discarded() ? std::nullopt : calls_from_json(value);
  if (!calls) return std::nullopt;
  std::move(calls->begin(), calls->end(), std::back_inserter(calls_));
  return reader.position();
}

// <function=name>{…}</function>; the name may be quoted, the closing tag missing, the object written as Python writes it.
std::optional<std::size_t> Parser::function_tag(std::string_view text, std::size_t at, std::size_t& stopped) {
  std::size_t begin = at + kFunctionOpen.size();
  const std::size_t close = text.substr(begin, kLongestName).find('>');
  stopped = begin;
  if (close == std::string_view::npos) return std::nullopt;
  std::string_view name = text.substr(begin, close);
  if (name.size() >= 2 && name.front() == '"' && name.back() == '"') name = name.substr(1, name.size() - 2);
  if (name.empty() || !is_known(name)) return std::nullopt;
  begin += close + 1;
  Json arguments;
  JsonReader json(text, begin);
  std::string_view span;
  std::size_t end = 0;
  if (json.peek() == '{' && json.skip(span)) arguments = Json::parse(span, nullptr, false);
  if (arguments.is_object()) {
    end = json.position();
  } else {
    PythonReader python(text, begin);
    const bool read = python.peek() == '{' && python.literal(arguments);
    stopped = std::max({stopped, json.position(), python.position()});
    if (!read || !arguments.is_object()) return std::nullopt;
    end = python.position();
  }
  calls_.push_back(as_builtin({std::string(name), std::move(arguments), {}}));
  JsonReader after(text, end);
  after.peek();
  if (text.substr(after.position()).starts_with(kFunctionClose)) end = after.position() + kFunctionClose.size();
  return end;
}

std::optional<std::size_t> Parser::pythonic_calls(std::string_view text, std::size_t at, std::size_t& stopped) {
  PythonReader reader(text, at);
  std::vector<ToolCall> calls;
  const bool complete = reader.call_list(calls);
  stopped = std::max(reader.position(), at + 1);
  if (!complete || !std::all_of(calls.begin(), calls.end(), [&](const ToolCall& call) { return is_known(call.name); }))
    return std::nullopt;
  for (ToolCall& call : calls) calls_.push_back(as_builtin(std::move(call)));
  return reader.position();
}

// brave_search.call(query="…"), or a known tool called as f(a="x").
std::optional<std::size_t> Parser::dotted_call(std::string_view text, std::size_t at, std::size_t& stopped) {
  PythonReader reader(text, at);
  ToolCall call;
  const bool complete = reader.name(call.name) && reader.peek() == '(' && reader.keyword_arguments(call.arguments);
  stopped = std::max(reader.position(), at + 1);
  if (!complete) return std::nullopt;
  constexpr std::string_view kCall = ".call";
  const bool dotted = call.name.ends_with(kCall);
  if (dotted) call.name.resize(call.name.size() - kCall.size());
  const bool nothing_known = tools_.empty() && builtin_tools_.empty();
  if (call.name.empty() || (nothing_known ? !dotted : !is_known(call.name))) return std::nullopt;
  calls_.push_back(as_builtin(std::move(call)));
  return reader.position();
}

std::optional<std::size_t> Parser::call_at(std::string_view text, std::size_t at, std::size_t& stopped) {
  stopped = at + 1;
  if (text[at] == '{') return json_calls(text, at, stopped);
  if (text.substr(at).starts_with(kFunctionOpen)) return function_tag(text, at, stopped);
  if (text[at] != '[') return std::nullopt;
  PythonReader inside(text, at + 1);
  const char next = inside.peek();
  return next == '{' ? json_calls(text, at, stopped) : pythonic_calls(text, at, stopped);
}

// Calls one after another, with white space, ";" or "," between them.
std::optional<std::size_t> Parser::chain_at(std::string_view text, std::size_t at, std::size_t& stopped) {
  auto end = call_at(text, at, stopped);
  while (end) {
    std::size_t next = *end;
    while (next < text.size() && (text[next] == ';' || text[next] == ',' || static_cast<unsigned char>(text[next]) <= ' ')) ++next;
    if (next >= text.size()) return next;
    const auto more = call_at(text, next, stopped);
    if (!more) break;
    end = more;
  }
  return end;
}

// What follows <|python_tag|>. False where it is no call of anything on offer.
bool Parser::tagged(std::string_view payload) {
  payload = strip_space(payload);
  const std::size_t before = calls_.size();
  std::size_t stopped = 0;
  if (payload.empty()) return false;
  if (const auto end = chain_at(payload, 0, stopped); end && is_blank(payload.substr(*end))) return true;
  calls_.resize(before);
  if (const auto end = dotted_call(payload, 0, stopped); end && is_blank(payload.substr(*end))) return true;
  calls_.resize(before);
  const bool offered = is_builtin_tool("code_interpreter", builtin_tools_) || (tools_.empty() && builtin_tools_.empty());
  if (!offered) return false;
  calls_.push_back({"code_interpreter", Json{{"code", payload}}, {}});
  return true;
}

// Text without the calls in it. A call has to begin a line or end the text: in the middle of a sentence it is spoken about.
std::string Parser::scan(std::string_view text) {
  std::string content;
  std::size_t copied = 0;
  bool line_start = true;
  const std::string_view stripped = strip_space(text);
  const auto last = static_cast<std::size_t>(stripped.data() + stripped.size() - text.data());  // only white space from here on
  for (std::size_t at = 0; at < text.size();) {
    const char c = text[at];
    const bool dotted = line_start && !builtin_tools_.empty() && ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_');
    if (!may_begin_call(c) && !dotted) {
      line_start = c == '\n' || (line_start && (c == ' ' || c == '\t' || c == '\r'));
      ++at;
      continue;
    }
    const std::size_t before = calls_.size();
    std::size_t stopped = at + 1;
    auto end = dotted ? dotted_call(text, at, stopped) : chain_at(text, at, stopped);
    const bool ends_line = end && (*end >= last || is_blank(text.substr(*end, text.find('\n', *end) - *end)));
    if (end && (dotted ? ends_line : line_start || c == '<' || *end >= last)) {
      content += text.substr(copied, at - copied);
      copied = *end;
      at = *end;
      line_start = true;  // calls may follow on the same line
      continue;
    }
    calls_.resize(before);
    const std::size_t next = end ? *end : std::max(stopped, at + 1);
    line_start = next > at + 1 && text[next - 1] == '\n';
    at = next;
  }
  content += text.substr(copied);
  return content;
}

// A reader that came to the text's end might have gone on.
std::size_t Parser::past_no_call(std::string_view text, std::size_t at) {
  const std::string_view rest = text.substr(at, kFunctionOpen.size() + kLongestName);
  const bool tag = kFunctionOpen.starts_with(rest.substr(0, kFunctionOpen.size()));
  if (tag && rest.size() < kFunctionOpen.size() + kLongestName && rest.find('>') == std::string_view::npos) return at;
  std::size_t stopped = at + 1;
  const auto end = call_at(text, at, stopped);
  calls_.clear();
  return end || stopped >= text.size() ? at : stopped;
}

// ```json … ``` around the whole answer, which begins with a call: that is what was meant.
std::string_view Parser::without_fence(std::string_view text) const {
  if (!text.starts_with(kFence) || !text.ends_with(kFence) || text.size() < 2 * kFence.size() + 1) return text;
  const std::size_t line = text.find('\n');
  const std::string_view inside = text.substr(0, text.size() - kFence.size());
  if (line == std::string_view::npos || line >= inside.size() || inside.find(kFence, kFence.size()) != std::string_view::npos)
    return text;
  const std::string_view stripped = strip_space(inside.substr(line));
  const bool dotted = !builtin_tools_.empty();  // brave_search.call(…)
  return dotted || (!stripped.empty() && may_begin_call(stripped.front())) ? stripped : text;
}

bool has_fence(std::string_view text) { return text.find(kFence) != std::string_view::npos; }

Message Parser::parse(std::string_view text) {
  Message message;
  message.role = Role::kAssistant;
  message.content = text;
  std::string content;
  if (const std::size_t tag = text.find(kPythonTag); tag != std::string_view::npos) {
    if (tagged(text.substr(tag + kPythonTag.size()))) content = text.substr(0, tag);
  } else {
    const std::string_view body = without_fence(strip_space(text));
    if (!has_fence(body)) content = scan(body);  // a call inside a longer fenced answer is an example
  }
  if (calls_.empty()) return message;
  message.content = strip_space(content);
  message.tool_calls = std::move(calls_);
  return message;
}

// Without the frame around it: an assistant's header before, the end of turn, message or text behind.
std::string_view without_frame(std::string_view raw) {
  std::string_view text = raw;
  while (text.starts_with(' ')) text.remove_prefix(1);
  if (text.starts_with(kAssistantHeader)) {
    text.remove_prefix(kAssistantHeader.size());
    if (text.starts_with("\n\n")) text.remove_prefix(2);
  } else {
    text = raw;
  }
  std::string_view end = kNone;
  do {
    end = kNone;
    for (const std::string_view candidate : kAnswerEnds) end = text.ends_with(candidate) ? candidate : end;
    text.remove_suffix(end.size());
  } while (!end.empty());
  return text;
}

}  // namespace

std::size_t past_no_call(std::string_view text, std::size_t at, std::span<const Tool> tools) {
  return Parser(tools, {}).past_no_call(text, at);
}

Message parse_assistant(const PromptFormat& format, std::string_view raw, std::span<const Tool> tools,
                        std::span<const std::string> builtin_tools) {
  if (format.frame == Frame::kLlama2) {  // no tools: every answer is content
    constexpr std::string_view kEnd = "</s>";
    Message message;
    message.role = Role::kAssistant;
    message.content = raw.substr(0, raw.size() - (raw.ends_with(kEnd) ? kEnd.size() : 0));
    return message;
  }
  return Parser(tools, builtin_tools).parse(without_frame(raw));
}

}  // namespace puna
