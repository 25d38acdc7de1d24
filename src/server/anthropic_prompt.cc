// SPDX-License-Identifier: Apache-2.0
#include "server/anthropic_prompt.h"

#include <utility>

#include "server/chat_prompt.h"

namespace puna {
namespace {

constexpr std::array<FieldRule, 2> kAnthropicMessageFields = {
    {{"role", FieldKind::kText, 1, 32, true}, {"content", FieldKind::kTextOrList, 0, 0, true}}};
constexpr std::array<FieldRule, 4> kAnthropicTextFields = {{{"type", FieldKind::kText, 0, 0, true},
                                                            {"text", FieldKind::kText, 0, 0, true},
                                                            {"cache_control", FieldKind::kObject},
                                                            {"citations", FieldKind::kList}}};
constexpr std::array<FieldRule, 6> kUseFields = {{{"type", FieldKind::kText, 0, 0, true},
                                                  {"id", FieldKind::kText, 1, 256, true},
                                                  {"name", FieldKind::kText, 1, 128, true},
                                                  {"input", FieldKind::kObject, 0, 0, true},
                                                  {"caller", FieldKind::kObject},
                                                  {"cache_control", FieldKind::kObject}}};
constexpr std::array<FieldRule, 5> kResultFields = {{{"type", FieldKind::kText, 0, 0, true},
                                                     {"tool_use_id", FieldKind::kText, 1, 256, true},
                                                     {"content", FieldKind::kTextOrList},
                                                     {"is_error", FieldKind::kBoolean},
                                                     {"cache_control", FieldKind::kObject}}};
constexpr std::array<FieldRule, 6> kAnthropicToolFields = {{{"type", FieldKind::kText, 1, 64},
                                                            {"name", FieldKind::kText, 1, 64, true},
                                                            {"description", FieldKind::kText, 0, 65536},
                                                            {"input_schema", FieldKind::kObject, 0, 0, true},
                                                            {"strict", FieldKind::kBoolean},
                                                            {"cache_control", FieldKind::kObject}}};
constexpr std::array<FieldRule, 3> kAnthropicChoiceFields = {{{"type", FieldKind::kText, 1, 32, true},
                                                              {"name", FieldKind::kText, 1, 64},
                                                              {"disable_parallel_tool_use", FieldKind::kBoolean}}};
constexpr std::array<FieldRule, 3> kThinkingFields = {
    {{"type", FieldKind::kText, 1, 32, true}, {"budget_tokens", FieldKind::kInteger}, {"display", FieldKind::kText, 0, 32}}};
constexpr std::array<FieldRule, 2> kAnthropicOutputFields = {{{"format", FieldKind::kObject}, {"effort", FieldKind::kText, 0, 32}}};
constexpr std::array<FieldRule, 2> kAnthropicFormatFields = {
    {{"type", FieldKind::kText, 1, 32, true}, {"schema", FieldKind::kObject, 0, 0, true}}};

constexpr std::size_t kLongestStopSequence = 1024;

std::string type_of(const Json& block, const std::string& place) {
  if (!block.is_object())
    throw ApiError(400, "invalid_type", place, fmt::format("\"{}\" is {}, expected an object", place, block.type_name()));
  const auto type = block.find("type");
  if (type == block.end() || !type->is_string())
    throw ApiError(400, "missing_required_parameter", place + ".type", fmt::format("the field \"{}.type\" is missing", place));
  return type->get<std::string>();
}

[[noreturn]] void refuse_block(const std::string& type, const std::string& place, std::string_view expected) {
  throw ApiError(400, "unsupported", place + ".type",
                 fmt::format("\"{}\" is of type \"{}\", and here it can be {} only", place, type.substr(0, 100), expected));
}

std::string text_of_block(const Json& block, const std::string& place) {
  if (const std::string type = type_of(block, place); type != "text") refuse_block(type, place, "text");
  check_fields(block, kAnthropicTextFields, place + ".");
  return block.at("text").get<std::string>();
}

// A text, or blocks of text one behind the other.
std::string block_text(const Json& content, const std::string& place) {
  if (content.is_string()) return content.get<std::string>();
  std::string text;
  for (std::size_t i = 0; i < content.size(); ++i) text += text_of_block(content[i], fmt::format("{}[{}]", place, i));
  return text;
}

Json block_call(const Json& block, const std::string& place) {
  check_fields(block, kUseFields, place + ".");
  return {
      {"id", block.at("id")}, {"type", "function"}, {"function", {{"name", block.at("name")}, {"arguments", block.at("input")}}}};
}

Json result_of(const Json& block, const std::string& place) {
  check_fields(block, kResultFields, place + ".");
  const Json* content = given_field(block, "content");
  return {{"role", "tool"},
          {"tool_call_id", block.at("tool_use_id")},
          {"content", content == nullptr ? "" : block_text(*content, place + ".content")}};
}

// Results of tools are messages of their own; texts beside each other are one.
void add_user(const Json& content, const std::string& place, Json& messages) {
  bool text_before = false;
  for (std::size_t i = 0; i < content.size(); ++i) {
    const std::string at = fmt::format("{}[{}]", place, i);
    const std::string type = type_of(content[i], at);
    if (type == "tool_result") {
      messages.push_back(result_of(content[i], at));
    } else if (type != "text") {
      refuse_block(type, at, "text or tool_result");
    } else if (text_before) {
      messages.back()["content"].get_ref<std::string&>() += text_of_block(content[i], at);
    } else {
      messages.push_back({{"role", "user"}, {"content", text_of_block(content[i], at)}});
    }
    text_before = type == "text";
  }
}

void add_assistant(const Json& content, const std::string& place, Json& messages) {
  std::string text;
  Json calls = Json::array();
  for (std::size_t i = 0; i < content.size(); ++i) {
    const std::string at = fmt::format("{}[{}]", place, i);
    const std::string type = type_of(content[i], at);
    if (type == "tool_use") {
      calls.push_back(block_call(content[i], at));
    } else if (type == "text") {
      text += text_of_block(content[i], at);
    } else {
      refuse_block(type, at, "text or tool_use");
    }
  }
  messages.push_back({{"role", "assistant"}, {"content", text}});
  if (!calls.empty()) messages.back()["tool_calls"] = std::move(calls);
}

void add_message(const Json& message, const std::string& place, Json& messages) {
  if (!message.is_object())
    throw ApiError(400, "invalid_type", place, fmt::format("\"{}\" is {}, expected an object", place, message.type_name()));
  check_fields(message, kAnthropicMessageFields, place + ".");
  const auto role = message.at("role").get<std::string>();
  const Json& content = message.at("content");
  if (role != "user" && role != "assistant")
    refuse_field(place + ".role", "\"{}.role\" is \"{}\", expected user or assistant: what the system says stands in \"system\"",
                 place, role);
  if (content.is_string()) {
    messages.push_back({{"role", role}, {"content", content}});
  } else {
    (role == "user" ? add_user : add_assistant)(content, place + ".content", messages);
  }
}

Json function_of(const Json& tool, const std::string& place) {
  if (const Json* type = given_field(tool, "type"); type != nullptr && type->is_string() && *type != "custom")
    throw ApiError(400, "unsupported", place + ".type",
                   fmt::format("\"{}\" is a tool that a server runs, and none is run here: give a tool of your own, with its "
                               "\"input_schema\"",
                               place));
  check_fields(tool, kAnthropicToolFields, place + ".");
  Json function = {{"name", tool.at("name")}, {"parameters", tool.at("input_schema")}};
  for (const char* name : {"description", "strict"}) {
    if (const Json* value = given_field(tool, name); value != nullptr) function[name] = *value;
  }
  return function;
}

void add_choice(const Json& choice, Json& chat) {
  check_fields(choice, kAnthropicChoiceFields, "tool_choice.");
  const auto type = choice.at("type").get<std::string>();
  if (type == "auto" || type == "none") {
    chat["tool_choice"] = type;
  } else if (type == "any") {
    chat["tool_choice"] = "required";
  } else if (type == "tool") {
    if (given_field(choice, "name") == nullptr)
      throw ApiError(400, "missing_required_parameter", "tool_choice.name", "the field \"tool_choice.name\" is missing");
    chat["tool_choice"] = {{"type", "function"}, {"function", {{"name", choice.at("name")}}}};
  } else {
    refuse_field("tool_choice.type", "\"tool_choice.type\" is \"{}\", expected auto, any, tool or none", type);
  }
  chat["parallel_tool_calls"] = !field_or(choice, "disable_parallel_tool_use", false);
}

void add_output(const Json& output, Json& chat) {
  check_fields(output, kAnthropicOutputFields, "output_config.");
  const Json* format = given_field(output, "format");
  if (format == nullptr) return;
  check_fields(*format, kAnthropicFormatFields, "output_config.format.");
  if (format->at("type") != "json_schema")
    refuse_field("output_config.format.type", "\"output_config.format.type\" is {}, expected json_schema",
                 dump_json(format->at("type")));
  chat["response_format"] = {{"type", "json_schema"}, {"json_schema", {{"name", "answer"}, {"schema", format->at("schema")}}}};
}

void check_thinking(const Json& thinking) {
  check_fields(thinking, kThinkingFields, "thinking.");
  if (thinking.at("type") != "disabled")
    throw ApiError(400, "unsupported", "thinking", "\"thinking\" cannot be done here: Llama models answer at once");
}

Json stops_of(const Json& texts) {
  for (const Json& text : texts) {
    if (!text.is_string() || text.get_ref<const std::string&>().empty())
      refuse_field("stop_sequences", "\"stop_sequences\" holds {}, expected texts of at least one byte", text.type_name());
    if (text.get_ref<const std::string&>().size() > kLongestStopSequence)
      refuse_field("stop_sequences", "\"stop_sequences\" holds a text of {} bytes, expected at most {}",
                   text.get_ref<const std::string&>().size(), kLongestStopSequence);
  }
  return texts;
}

// A last message of the assistant's is where the answer begins.
std::string take_prefill(Json& messages) {
  const Json& last = messages.back();
  if (last.at("role") != "assistant") return "";
  if (last.contains("tool_calls"))
    refuse_field("messages", "the last message calls tools: what they gave must follow, as tool_result in a user's message");
  auto text = last.at("content").get<std::string>();
  if (text.find_last_not_of(" \t\r\n") + 1 != text.size())
    refuse_field("messages", "the last message, which the answer goes on from, ends with white space: take that away");
  messages.erase(messages.size() - 1);
  return text;
}

}  // namespace

AnthropicRequest read_anthropic(const Json& body) {
  AnthropicRequest request{.chat = Json::object(), .prefill = ""};
  Json messages = Json::array();
  if (const Json* system = given_field(body, "system"); system != nullptr)
    messages.push_back({{"role", "system"}, {"content", block_text(*system, "system")}});
  const Json& list = body.at("messages");
  for (std::size_t i = 0; i < list.size(); ++i) add_message(list[i], fmt::format("messages[{}]", i), messages);
  if (messages.empty()) refuse_field("messages", "\"messages\" holds no text");
  request.prefill = take_prefill(messages);
  request.chat["messages"] = std::move(messages);
  if (const Json* tools = given_field(body, "tools"); tools != nullptr) request.chat["tools"] = chat_tools(*tools, function_of);
  if (const Json* choice = given_field(body, "tool_choice"); choice != nullptr) add_choice(*choice, request.chat);
  if (const Json* thinking = given_field(body, "thinking"); thinking != nullptr) check_thinking(*thinking);
  if (const Json* output = given_field(body, "output_config"); output != nullptr) add_output(*output, request.chat);
  if (const Json* stops = given_field(body, "stop_sequences"); stops != nullptr && !stops->empty())
    request.chat["stop"] = stops_of(*stops);
  for (const char* name : {"temperature", "top_p", "top_k"}) {
    if (const Json* value = given_field(body, name); value != nullptr) request.chat[name] = *value;
  }
  return request;
}

}  // namespace puna
