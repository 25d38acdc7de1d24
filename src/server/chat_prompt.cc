// SPDX-License-Identifier: Apache-2.0
#include "server/chat_prompt.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "grammar/tool_grammar.h"
#include "server/request_json.h"
#include "text/conversation.h"

namespace puna {
namespace {

constexpr std::size_t kMostMessages = 10'000;
constexpr std::size_t kMostTools = 256;

constexpr std::array<FieldRule, 10> kChatMessageFields = {{{"role", FieldKind::kText, 1, 32, true},
                                                           {"content", FieldKind::kTextOrList},
                                                           {"name", FieldKind::kText, 0, 256},
                                                           {"tool_calls", FieldKind::kList, 0, 128},
                                                           {"tool_call_id", FieldKind::kText, 0, 256},
                                                           {"refusal", FieldKind::kText},
                                                           {"reasoning_content", FieldKind::kText},
                                                           {"function_call", FieldKind::kObject},
                                                           {"audio", FieldKind::kObject},
                                                           {"annotations", FieldKind::kList}}};
constexpr std::array<FieldRule, 4> kCallFields = {{{"id", FieldKind::kText, 0, 256},
                                                   {"type", FieldKind::kText, 0, 32},
                                                   {"function", FieldKind::kObject, 0, 0, true},
                                                   {"index", FieldKind::kInteger, 0, 1000}}};
constexpr std::array<FieldRule, 2> kChatToolFields = {
    {{"type", FieldKind::kText, 1, 32, true}, {"function", FieldKind::kObject, 0, 0, true}}};
constexpr std::array<FieldRule, 4> kFunctionFields = {{{"name", FieldKind::kText, 1, 64, true},
                                                       {"description", FieldKind::kText, 0, 65536},
                                                       {"parameters", FieldKind::kObject},
                                                       {"strict", FieldKind::kBoolean}}};

void check_message(const Json& message, const std::string& place) {
  if (!message.is_object())
    throw ApiError(400, "invalid_type", place, fmt::format("\"{}\" is {}, expected an object", place, message.type_name()));
  check_fields(message, kChatMessageFields, place + ".");
  const auto role = message.at("role").get<std::string>();
  constexpr std::array<std::string_view, 5> kRoles = {"system", "developer", "user", "assistant", "tool"};
  if (std::ranges::find(kRoles, role) == kRoles.end())
    refuse_field(place + ".role", "\"{}.role\" is \"{}\", expected system, developer, user, assistant or tool", place, role);
  if (given_field(message, "content") == nullptr && role != "assistant")
    throw ApiError(400, "missing_required_parameter", place + ".content",
                   fmt::format("the field \"{}.content\" is missing", place));
  // Clients that keep whole answers send it as null.
  if (given_field(message, "function_call") != nullptr)
    throw ApiError(400, "unsupported", place + ".function_call",
                   fmt::format("\"{}.function_call\" is not read: write \"tool_calls\"", place));
  if (const Json* calls = given_field(message, "tool_calls"); calls != nullptr) {
    for (std::size_t i = 0; i < calls->size(); ++i) {
      const std::string call = fmt::format("{}.tool_calls[{}]", place, i);
      if (!(*calls)[i].is_object()) refuse_field(call, "\"{}\" is {}, expected an object", call, (*calls)[i].type_name());
      check_fields((*calls)[i], kCallFields, call + ".");
    }
  }
}

// Whether calls follow the functions' schemas, where those can be followed: unless a "strict" is false.
bool follows_schemas(const Json& tools) {
  return std::ranges::all_of(tools, [](const Json& tool) { return field_or(tool.at("function"), "strict", true); });
}

// Whether they must.
bool any_strict(const Json& tools) {
  return std::ranges::any_of(tools, [](const Json& tool) { return field_or(tool.at("function"), "strict", false); });
}

// A word, or {"type": "function", "function": {"name": "f"}} with one of the tools.
void check_choice(const Json& choice, const Json& tools) {
  if (choice.is_string()) {
    if (choice != "none" && choice != "auto" && choice != "required")
      refuse_field("tool_choice", "\"tool_choice\" is {}, expected none, auto, required or a function by its name",
                   dump_json(choice).substr(0, 100));
    return;
  }
  const Json* function = given_field(choice, "function");
  const Json name = function != nullptr && function->is_object() ? function->value("name", Json()) : Json();
  const bool known = std::ranges::any_of(tools, [&](const Json& tool) { return tool.at("function").at("name") == name; });
  if (!known)
    refuse_field("tool_choice", "\"tool_choice\" asks for {}, which is none of the \"tools\"", dump_json(name).substr(0, 100));
}

}  // namespace

std::vector<Message> read_messages(const Json& body, const char* field) {
  const Json& list = body.at(field);
  if (list.empty()) refuse_field(field, "\"{}\" is empty: give at least one", field);
  if (list.size() > kMostMessages) refuse_field(field, "there are {} messages, expected at most {}", list.size(), kMostMessages);
  for (std::size_t i = 0; i < list.size(); ++i) check_message(list[i], fmt::format("{}[{}]", field, i));
  try {
    return messages_from_json(list, field);
  } catch (const Error& error) {
    throw ApiError(400, "invalid_value", field, error.what());
  }
}

std::vector<Tool> read_tools(const Json& body) {
  const Json* tools = given_field(body, "tools");
  const Json* choice = given_field(body, "tool_choice");
  if (tools == nullptr || tools->empty()) {
    if (choice != nullptr && *choice != "none" && *choice != "auto")
      refuse_field("tool_choice", "\"tool_choice\" is {}, and there are no \"tools\"", dump_json(*choice).substr(0, 100));
    return {};
  }
  if (tools->size() > kMostTools) refuse_field("tools", "there are {} tools, expected at most {}", tools->size(), kMostTools);
  for (std::size_t i = 0; i < tools->size(); ++i) {
    const std::string place = fmt::format("tools[{}]", i);
    const Json& tool = (*tools)[i];
    if (!tool.is_object()) refuse_field(place, "\"{}\" is {}, expected an object", place, tool.type_name());
    check_fields(tool, kChatToolFields, place + ".");
    if (tool.at("type") != "function")
      refuse_field(place + ".type", "\"{}.type\" is {}, and only functions can be called here", place, dump_json(tool.at("type")));
    check_fields(tool.at("function"), kFunctionFields, place + ".function.");
  }
  if (choice != nullptr) check_choice(*choice, *tools);
  if (choice != nullptr && *choice == "none") return {};
  try {
    return tools_from_json(*tools, "tools");
  } catch (const Error& error) {
    throw ApiError(400, "invalid_value", "tools", error.what());
  }
}

Json chat_tools(const Json& tools, const std::function<Json(const Json&, const std::string&)>& function_of) {
  Json functions = Json::array();
  for (const Json& tool : tools) {
    const std::string place = fmt::format("tools[{}]", functions.size());
    if (!tool.is_object())
      throw ApiError(400, "invalid_type", place, fmt::format("\"{}\" is {}, expected an object", place, tool.type_name()));
    functions.push_back({{"type", "function"}, {"function", function_of(tool, place)}});
  }
  return functions;
}

void prepare_chat(const Services& services, const Json& body, const std::vector<Message>& messages, AnswerRequest& request) {
  const Checkpoint& checkpoint = request.model->checkpoint();
  request.format = checkpoint.need_prompt_format();
  request.tools = read_tools(body);
  request.one_call = !field_or(body, "parallel_tool_calls", true);
  request.options.with_specials = !request.tools.empty();  // a call may begin with <|python_tag|>
  try {
    PromptOptions options{.tools = request.tools, .builtin_tools = {}, .date = services.date.empty() ? today() : services.date};
    request.prompts = {encode_prompt(checkpoint.need_tokenizer(), render_prompt(request.format, messages, options))};
  } catch (const Error& error) {
    throw ApiError(400, "invalid_value", "messages", error.what());
  }
  Json shaped = body;
  if (request.tools.empty()) shaped.erase("tool_choice");
  const bool asks_format = given_field(body, "response_format") != nullptr;
  const char* param = asks_format ? "response_format" : "tools";
  try {
    request.shape = answer_shape(shaped, request.format, request.tools, param);
    if (!request.shape && !request.tools.empty() && follows_schemas(body.at("tools")) &&
        request.format.dialect != ToolDialect::kPythonic) {
      request.shape = call_or_text_shape(request.format, request.tools, body.at("tools"));
      request.shape_may_lapse = !any_strict(body.at("tools"));
    }
  } catch (const Error& error) {
    throw ApiError(400, error.kind() == ErrorKind::kUnsupported ? "unsupported" : "invalid_value", param, error.what());
  }
}

}  // namespace puna
