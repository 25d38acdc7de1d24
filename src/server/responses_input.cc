// SPDX-License-Identifier: Apache-2.0
#include "server/responses_input.h"

#include <algorithm>
#include <string>
#include <utility>

#include "server/chat_prompt.h"

namespace puna {
namespace {

constexpr std::array<FieldRule, 6> kInputMessageFields = {{{"type", FieldKind::kText, 0, 32},
                                                           {"role", FieldKind::kText, 1, 32, true},
                                                           {"content", FieldKind::kTextOrList, 0, 0, true},
                                                           {"id", FieldKind::kText, 0, 256},
                                                           {"status", FieldKind::kText, 0, 32},
                                                           {"phase", FieldKind::kText, 0, 32}}};
constexpr std::array<FieldRule, 6> kInputCallFields = {{{"type", FieldKind::kText, 0, 0, true},
                                                        {"call_id", FieldKind::kText, 1, 256, true},
                                                        {"name", FieldKind::kText, 1, 128, true},
                                                        {"arguments", FieldKind::kText, 0, 0, true},
                                                        {"id", FieldKind::kText, 0, 256},
                                                        {"status", FieldKind::kText, 0, 32}}};
constexpr std::array<FieldRule, 5> kInputOutputFields = {{{"type", FieldKind::kText, 0, 0, true},
                                                          {"call_id", FieldKind::kText, 1, 256, true},
                                                          {"output", FieldKind::kTextOrList, 0, 0, true},
                                                          {"id", FieldKind::kText, 0, 256},
                                                          {"status", FieldKind::kText, 0, 32}}};
constexpr std::array<FieldRule, 5> kPartFields = {{{"type", FieldKind::kText, 1, 32, true},
                                                   {"text", FieldKind::kText, 0, 0, true},
                                                   {"annotations", FieldKind::kList},
                                                   {"logprobs", FieldKind::kList},
                                                   {"prompt_cache_breakpoint", FieldKind::kObject}}};
constexpr std::array<FieldRule, 5> kInputToolFields = {{{"type", FieldKind::kText, 1, 64, true},
                                                        {"name", FieldKind::kText, 1, 64, true},
                                                        {"description", FieldKind::kText, 0, 65536},
                                                        {"parameters", FieldKind::kObject},
                                                        {"strict", FieldKind::kBoolean}}};
constexpr std::array<FieldRule, 2> kInputChoiceFields = {
    {{"type", FieldKind::kText, 1, 32, true}, {"name", FieldKind::kText, 1, 64, true}}};
constexpr std::array<FieldRule, 2> kInputTextFields = {{{"format", FieldKind::kObject}, {"verbosity", FieldKind::kText, 0, 32}}};
constexpr std::array<FieldRule, 5> kInputFormatFields = {{{"type", FieldKind::kText, 1, 32, true},
                                                          {"name", FieldKind::kText, 1, 64},
                                                          {"description", FieldKind::kText, 0, 65536},
                                                          {"schema", FieldKind::kObject},
                                                          {"strict", FieldKind::kBoolean}}};
constexpr std::array<FieldRule, 3> kReasoningFields = {
    {{"effort", FieldKind::kText, 0, 32}, {"summary", FieldKind::kText, 0, 32}, {"generate_summary", FieldKind::kText, 0, 32}}};
constexpr std::array<FieldRule, 1> kStreamFields = {{{"include_obfuscation", FieldKind::kBoolean}}};

// A text, or parts of text one behind the other.
std::string input_text(const Json& content, const std::string& place) {
  if (content.is_string()) return content.get<std::string>();
  std::string text;
  for (std::size_t i = 0; i < content.size(); ++i) {
    const std::string at = fmt::format("{}[{}]", place, i);
    const Json& part = content[i];
    if (!part.is_object()) refuse_field(at, "\"{}\" is {}, expected an object", at, part.type_name());
    const auto type = field_or<Json>(part, "type", Json());
    if (type != "input_text" && type != "output_text" && type != "text")
      throw ApiError(400, "unsupported", at + ".type",
                     fmt::format("\"{}\" is of type {}, and only input_text and output_text can be read here", at,
                                 dump_json(type).substr(0, 100)));
    check_fields(part, kPartFields, at + ".");
    text += part.at("text").get<std::string>();
  }
  return text;
}

Json message_of(const Json& item, const std::string& place) {
  check_fields(item, kInputMessageFields, place + ".");
  const auto role = item.at("role").get<std::string>();
  constexpr std::array<std::string_view, 4> kRoles = {"system", "developer", "user", "assistant"};
  if (std::ranges::find(kRoles, role) == kRoles.end())
    refuse_field(place + ".role", "\"{}.role\" is \"{}\", expected system, developer, user or assistant", place, role);
  return {{"role", role}, {"content", input_text(item.at("content"), place + ".content")}};
}

Json input_call(const Json& item, const std::string& place) {
  check_fields(item, kInputCallFields, place + ".");
  Json arguments = parse_json(item.at("arguments").get_ref<const std::string&>(), place + ".arguments");
  if (!arguments.is_object())
    refuse_field(place + ".arguments", "\"{}.arguments\" is {}, expected an object, as a text", place, arguments.type_name());
  return {{"id", item.at("call_id")},
          {"type", "function"},
          {"function", {{"name", item.at("name")}, {"arguments", std::move(arguments)}}}};
}

// Calls behind each other, and behind a text of the assistant's, are one message.
void add_call(Json call, Json& messages) {
  if (messages.empty() || messages.back().at("role") != "assistant")
    messages.push_back({{"role", "assistant"}, {"content", ""}, {"tool_calls", Json::array()}});
  messages.back()["tool_calls"].push_back(std::move(call));
}

void add_item(const Json& item, const std::string& place, Json& messages) {
  if (!item.is_object())
    throw ApiError(400, "invalid_type", place, fmt::format("\"{}\" is {}, expected an object", place, item.type_name()));
  const auto type = field_or<Json>(item, "type", "message");
  if (type == "message") {
    messages.push_back(message_of(item, place));
  } else if (type == "function_call") {
    add_call(input_call(item, place), messages);
  } else if (type == "function_call_output") {
    check_fields(item, kInputOutputFields, place + ".");
    messages.push_back(
        {{"role", "tool"}, {"tool_call_id", item.at("call_id")}, {"content", input_text(item.at("output"), place + ".output")}});
  } else {
    throw ApiError(400, "unsupported", place + ".type",
                   fmt::format("\"{}\" is of type {}, and here it can be message, function_call or function_call_output only",
                               place, dump_json(type).substr(0, 100)));
  }
}

Json messages_of(const Json& body) {
  Json messages = Json::array();
  if (const Json* instructions = given_field(body, "instructions"); instructions != nullptr)
    messages.push_back({{"role", "system"}, {"content", *instructions}});
  const Json& input = body.at("input");
  if (input.is_string()) {
    messages.push_back({{"role", "user"}, {"content", input}});
    return messages;
  }
  if (input.empty()) refuse_field("input", "\"input\" is empty: give a text, or at least one item");
  for (std::size_t i = 0; i < input.size(); ++i) add_item(input[i], fmt::format("input[{}]", i), messages);
  return messages;
}

Json input_function(const Json& tool, const std::string& place) {
  if (const auto type = field_or<Json>(tool, "type", Json()); type != "function")
    throw ApiError(400, "unsupported", place + ".type",
                   fmt::format("\"{}\" is of type {}, and no tool is run here: give functions of your own", place,
                               dump_json(type).substr(0, 100)));
  check_fields(tool, kInputToolFields, place + ".");
  Json function = tool;
  function.erase("type");
  return function;
}

Json choice_of(const Json& choice) {
  if (choice.is_string()) {
    if (choice != "none" && choice != "auto" && choice != "required")
      refuse_field("tool_choice", "\"tool_choice\" is {}, expected none, auto, required or a function",
                   dump_json(choice).substr(0, 100));
    return choice;
  }
  if (const auto type = field_or<Json>(choice, "type", Json()); type != "function")
    throw ApiError(
        400, "unsupported", "tool_choice.type",
        fmt::format("\"tool_choice\" is of type {}, and only a function can be chosen here", dump_json(type).substr(0, 100)));
  check_fields(choice, kInputChoiceFields, "tool_choice.");
  return {{"type", "function"}, {"function", {{"name", choice.at("name")}}}};
}

void add_format(const Json& text, Json& chat) {
  check_fields(text, kInputTextFields, "text.");
  const Json* format = given_field(text, "format");
  if (format == nullptr) return;
  check_fields(*format, kInputFormatFields, "text.format.");
  const auto type = format->at("type").get<std::string>();
  if (type == "text" || type == "json_object") {
    chat["response_format"] = {{"type", type}};
    return;
  }
  if (type != "json_schema")
    refuse_field("text.format.type", "\"text.format.type\" is \"{}\", expected text, json_object or json_schema", type);
  if (given_field(*format, "schema") == nullptr)
    throw ApiError(400, "missing_required_parameter", "text.format.schema", "the field \"text.format.schema\" is missing");
  chat["response_format"] = {{"type", type}, {"json_schema", {{"name", "answer"}, {"schema", format->at("schema")}}}};
}

void refuse_unsupported_response(const Json& body) {
  for (const char* name : {"previous_response_id", "conversation", "prompt"}) {
    if (given_field(body, name) != nullptr)
      throw ApiError(
          400, "unsupported", name,
          fmt::format("\"{}\" cannot be done here: nothing is kept, so send all of the conversation as \"input\"", name));
  }
  for (const char* name : {"background", "store"}) {
    if (field_or(body, name, false))
      throw ApiError(400, "unsupported", name, fmt::format("\"{}\" cannot be done here: no answer is kept; say false", name));
  }
  for (const char* name : {"context_management", "moderation"}) {
    if (given_field(body, name) != nullptr)
      throw ApiError(400, "unsupported", name, fmt::format("\"{}\" cannot be done here", name));
  }
  if (field_or<std::string>(body, "truncation", "disabled") != "disabled")
    throw ApiError(400, "unsupported", "truncation", "\"truncation\" can be \"disabled\" only: nothing is cut off in silence");
}

}  // namespace

Json chat_of_responses(const Json& body) {
  refuse_unsupported_response(body);
  Json chat = {{"messages", messages_of(body)}};
  if (const Json* tools = given_field(body, "tools"); tools != nullptr) chat["tools"] = chat_tools(*tools, input_function);
  if (const Json* choice = given_field(body, "tool_choice"); choice != nullptr) chat["tool_choice"] = choice_of(*choice);
  if (const Json* text = given_field(body, "text"); text != nullptr) add_format(*text, chat);
  if (const Json* reasoning = given_field(body, "reasoning"); reasoning != nullptr)
    check_fields(*reasoning, kReasoningFields, "reasoning.");
  if (const Json* options = given_field(body, "stream_options"); options != nullptr)
    check_fields(*options, kStreamFields, "stream_options.");
  for (const char* name : {"temperature", "top_p", "parallel_tool_calls"}) {
    if (const Json* value = given_field(body, name); value != nullptr) chat[name] = *value;
  }
  return chat;
}

bool wants_logprobs(const Json& body) {
  bool wanted = given_field(body, "top_logprobs") != nullptr;
  const Json* include = given_field(body, "include");
  if (include == nullptr) return wanted;
  for (const Json& what : *include) {
    if (what == "message.output_text.logprobs") {
      wanted = true;
    } else if (what != "reasoning.encrypted_content") {  // which no answer here has
      throw ApiError(400, "unsupported", "include",
                     fmt::format("\"include\" holds {}, and only message.output_text.logprobs can be included here",
                                 dump_json(what).substr(0, 100)));
    }
  }
  return wanted;
}

}  // namespace puna
