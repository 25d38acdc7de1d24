// SPDX-License-Identifier: Apache-2.0
#include "text/conversation.h"

#include <array>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace puna {
namespace {

constexpr std::array<std::pair<std::string_view, Role>, 6> kRoles = {{{"system", Role::kSystem},
                                                                      {"developer", Role::kSystem},
                                                                      {"user", Role::kUser},
                                                                      {"assistant", Role::kAssistant},
                                                                      {"tool", Role::kTool},
                                                                      {"ipython", Role::kTool}}};

Role role_from_name(const std::string& name, const std::string& where) {
  for (const auto& [known, role] : kRoles) {
    if (known == name) return role;
  }
  fail(ErrorKind::kBadInput, where, "the role \"{}\" is unknown, expected system, user, assistant or tool", name);
}

std::string_view role_name(Role role) {
  for (const auto& [name, known] : kRoles) {
    if (known == role) return name;
  }
  return "user";
}

// "text", null, or [{"type": "text", "text": "…"}, …].
std::string content_from_json(const Json& message, const std::string& where) {
  if (!message.contains("content") || message.at("content").is_null()) return "";
  const Json& content = message.at("content");
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) fail(ErrorKind::kBadInput, where, "\"content\" is {}, expected a text", content.type_name());
  std::string text;
  for (const Json& part : content) {
    const std::string type = json_or<std::string>(part, "type", "text", where);
    if (type != "text") fail(ErrorKind::kUnsupported, where, "a part of type \"{}\": only text can be read", type);
    text += json_at<std::string>(part, "text", where);
  }
  return text;
}

ToolCall call_from_json(const Json& value, const std::string& where) {
  const Json& function = value.is_object() && value.contains("function") ? value.at("function") : value;
  ToolCall call;
  call.name = json_at<std::string>(function, "name", where);
  call.id = json_or<std::string>(value, "id", "", where);
  if (function.contains("arguments")) {
    const Json& arguments = function.at("arguments");  // OpenAI writes the object as a text, others an empty one for none
    call.arguments = !arguments.is_string() ? arguments
                     : arguments == ""      ? Json()
                                            : parse_json(arguments.get<std::string>(), where + ": arguments");
  }
  if (call.arguments.is_null()) call.arguments = Json::object();
  return call;
}

Message message_from_json(const Json& value, const std::string& where) {
  Message message;
  message.role = role_from_name(json_at<std::string>(value, "role", where), where);
  message.content = content_from_json(value, where);
  message.tool_call_id = json_or<std::string>(value, "tool_call_id", "", where);
  if (value.contains("tool_calls") && value.at("tool_calls").is_array()) {
    for (const Json& call : value.at("tool_calls")) message.tool_calls.push_back(call_from_json(call, where));
  }
  return message;
}

// The list inside `value` under `key`, or `value` itself where it is the list.
const Json& list_in(const Json& value, const char* key, const std::string& where) {
  const Json& list = value.is_object() && value.contains(key) ? value.at(key) : value;
  if (!list.is_array()) fail(ErrorKind::kBadInput, where, "expected a list, or an object with the list under \"{}\"", key);
  return list;
}

}  // namespace

std::vector<Message> messages_from_json(const Json& value, const std::string& where) {
  std::vector<Message> messages;
  for (const Json& item : list_in(value, "messages", where)) {
    messages.push_back(message_from_json(item, where + ": message " + std::to_string(messages.size())));
  }
  return messages;
}

Json message_to_json(const Message& message) {
  Json value = {{"role", role_name(message.role)}, {"content", message.content}};
  if (!message.tool_calls.empty()) value["tool_calls"] = tool_calls_to_json(message.tool_calls);
  if (!message.tool_call_id.empty()) value["tool_call_id"] = message.tool_call_id;
  return value;
}

Json messages_to_json(std::span<const Message> messages) {
  Json list = Json::array();
  for (const Message& message : messages) list.push_back(message_to_json(message));
  return list;
}

std::vector<Tool> tools_from_json(const Json& value, const std::string& where) {
  std::vector<Tool> tools;
  for (const Json& item : list_in(value, "tools", where)) {
    const std::string place = where + ": tool " + std::to_string(tools.size());
    const Json& function = item.is_object() && item.contains("function") ? item.at("function") : item;
    Tool tool;
    tool.name = json_at<std::string>(function, "name", place);
    tool.description = json_or<std::string>(function, "description", "", place);
    tool.parameters = function.contains("parameters") ? function.at("parameters") : Json();
    if (tool.parameters.is_null()) tool.parameters = Json::object();
    if (!tool.parameters.is_object()) fail(ErrorKind::kBadInput, place, "\"parameters\" is not an object: give a JSON schema");
    tools.push_back(std::move(tool));
  }
  return tools;
}

Json tool_calls_to_json(std::span<const ToolCall> calls) {
  Json list = Json::array();
  for (const ToolCall& call : calls) {
    Json value = {{"name", call.name}, {"arguments", call.arguments}};
    if (!call.id.empty()) value["id"] = call.id;
    list.push_back(std::move(value));
  }
  return list;
}

}  // namespace puna
