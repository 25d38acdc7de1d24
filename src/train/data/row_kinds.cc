// SPDX-License-Identifier: Apache-2.0
#include "train/data/row.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/json.h"
#include "text/conversation.h"
#include "text/unicode.h"
#include "train/data/row_answers.h"
#include "train/data/row_fields.h"

namespace puna {
namespace {

// Only the assistant's messages can be trained; OpenAI's "weight": 0 takes one out. `items` are the messages' JSON.
void add_weights(const Json& items, Row& row) {
  for (std::size_t i = 0; i < row.messages.size(); ++i) {
    bool trained = row.messages[i].role == Role::kAssistant;
    if (has_field(items[i], "weight")) {
      const Json& weight = items[i].at("weight");
      if (weight != 0 && weight != 1) {
        throw RowError(DropReason::kWrongType, fmt::format("message {}: \"weight\" is {}, expected 0 or 1", i, dump_json(weight)));
      }
      trained = trained && weight == 1;
    }
    row.trained.push_back(trained);
  }
}

// A list, or the same as JSON in a text, which sets on the hub have because their columns hold one type.
void add_tools(const Json& json, Row& row) {
  if (has_field(json, "tools")) {
    const Json& tools = json.at("tools");
    try {
      row.tools = tools_from_json(tools.is_string() ? parse_json(tools.get_ref<const std::string&>(), "tools") : tools, "tools");
    } catch (const Error& error) {
      throw RowError(DropReason::kConversation, error.what());
    }
  }
  if (!has_field(json, "builtin_tools")) return;
  const Json& names = json.at("builtin_tools");
  if (!names.is_array() || !std::all_of(names.begin(), names.end(), [](const Json& name) { return name.is_string(); })) {
    throw RowError(DropReason::kWrongType, "\"builtin_tools\" is not a list of names");
  }
  row.builtin_tools = names.get<std::vector<std::string>>();
}

Row read_messages(const Json& json) {
  Row row;
  row.messages = messages_field(json, "messages");
  add_weights(json.at("messages"), row);
  return row;
}

enum class Author { kSystem, kUser, kAssistant, kCall, kTool };
constexpr std::array<std::pair<std::string_view, Author>, 14> kFrom = {{{"human", Author::kUser},
                                                                        {"user", Author::kUser},
                                                                        {"gpt", Author::kAssistant},
                                                                        {"assistant", Author::kAssistant},
                                                                        {"model", Author::kAssistant},
                                                                        {"chatgpt", Author::kAssistant},
                                                                        {"bot", Author::kAssistant},
                                                                        {"system", Author::kSystem},
                                                                        {"function_call", Author::kCall},
                                                                        {"tool_call", Author::kCall},
                                                                        {"observation", Author::kTool},
                                                                        {"tool", Author::kTool},
                                                                        {"function_response", Author::kTool},
                                                                        {"ipython", Author::kTool}}};

// {"from": "function_call", "value": "{\"name\": …, \"arguments\": {…}}"}, through OpenAI's form of the same.
Message call_message(const std::string& value) {
  try {
    Json calls = parse_json(value, "function_call");
    if (calls.is_object()) calls = Json::array({std::move(calls)});
    if (!calls.is_array()) fail(ErrorKind::kBadInput, "function_call", "the value is {}, expected an object", calls.type_name());
    Json message = {{"role", "assistant"}};
    message["tool_calls"] = std::move(calls);
    Json list = Json::array();
    list.push_back(std::move(message));
    return messages_from_json(list, "function_call").front();
  } catch (const Error& error) {
    throw RowError(DropReason::kConversation, error.what());
  }
}

Message share_gpt_message(const Json& item, std::size_t number) {
  const std::string from = text_field(item, "from"), value = text_field(item, "value");
  const auto found = std::find_if(kFrom.begin(), kFrom.end(), [&](const auto& known) { return known.first == from; });
  if (found == kFrom.end()) {
    throw RowError(DropReason::kConversation,
                   fmt::format("message {}: \"from\" is \"{}\", expected human, gpt, system or tool", number, from));
  }
  switch (found->second) {
    case Author::kSystem:
      return text_message(Role::kSystem, value);
    case Author::kUser:
      return text_message(Role::kUser, value);
    case Author::kAssistant:
      return text_message(Role::kAssistant, value);
    case Author::kTool:
      return text_message(Role::kTool, value);
    case Author::kCall:
      break;
  }
  return call_message(value);
}

Row read_share_gpt(const Json& json) {
  const Json& items = field(json, "conversations");
  if (!items.is_array()) {
    throw RowError(DropReason::kWrongType, fmt::format("\"conversations\" is of type {}, expected a list", items.type_name()));
  }
  Row row;
  const bool is_openai = !items.empty() && items.front().is_object() && items.front().contains("role");
  if (is_openai) row.messages = messages_field(json, "conversations");
  for (std::size_t i = 0; !is_openai && i < items.size(); ++i) {
    if (!items[i].is_object()) throw RowError(DropReason::kWrongType, fmt::format("message {} is not an object", i));
    row.messages.push_back(share_gpt_message(items[i], i));
  }
  add_weights(items, row);
  if (const std::string system = text_field_or(json, "system", ""); !system.empty()) {
    row.messages.insert(row.messages.begin(), text_message(Role::kSystem, system));
    row.trained.insert(row.trained.begin(), false);
  }
  return row;
}

Row read_instruction(const Json& json) {
  std::string question = text_field(json, "instruction");
  const std::string input = text_field_or(json, "input", ""), system = text_field_or(json, "system", "");
  if (!input.empty()) question += "\n\n" + input;
  Row row;
  if (!system.empty()) row.messages.push_back(text_message(Role::kSystem, system));
  row.messages.push_back(text_message(Role::kUser, std::move(question)));
  row.messages.push_back(text_message(Role::kAssistant, text_field(json, "output")));
  row.trained.assign(row.messages.size(), false);
  row.trained.back() = true;
  return row;
}

Row read_completion(const Json& json, bool plain_strings) {
  const bool is_question = !json.contains("prompt") && json.contains("question");
  const char* asks = is_question ? "question" : "prompt";
  const char* tells = is_question ? "answer" : "completion";
  const bool are_texts = field(json, asks).is_string() && field(json, tells).is_string();
  Row row;
  if (are_texts && plain_strings) {
    row.parts = {{text_field(json, asks), false}, {text_field(json, tells), true}};
    return row;
  }
  if (are_texts) {
    row.messages = {text_message(Role::kUser, text_field(json, asks)), text_message(Role::kAssistant, text_field(json, tells))};
    row.trained = {false, true};
    return row;
  }
  row.messages = messages_field(json, asks);
  row.trained.assign(row.messages.size(), false);
  for (Message& message : messages_field(json, tells)) {
    row.trained.push_back(message.role == Role::kAssistant);
    row.messages.push_back(std::move(message));
  }
  return row;
}

Row read_object(DataKind kind, const Json& json, bool plain_strings) {
  switch (kind) {
    case DataKind::kTextRows:
      return read_text_row(text_field(json, "text"));
    case DataKind::kMessages:
      return read_messages(json);
    case DataKind::kShareGpt:
      return read_share_gpt(json);
    case DataKind::kInstruction:
      return read_instruction(json);
    case DataKind::kCompletion:
      return read_completion(json, plain_strings);
    case DataKind::kPreference:
      return read_preference(json, plain_strings);
    case DataKind::kRanked:
      return read_ranked(json, plain_strings);
    default:
      fail(ErrorKind::kInternal, "rows", "{} is not a kind of JSON rows", name_of(kind));
  }
}

// The fields that a row of a kind must have; the first kind whose fields are all there is it.
struct KnownRow {
  DataKind kind;
  std::vector<const char*> fields;
};
const std::array<KnownRow, 8>& known_rows() {
  static const std::array<KnownRow, 8> rows = {{{DataKind::kPreference, {"chosen", "rejected"}},
                                                {DataKind::kRanked, {"prompt", "answers"}},
                                                {DataKind::kMessages, {"messages"}},
                                                {DataKind::kShareGpt, {"conversations"}},
                                                {DataKind::kInstruction, {"instruction", "output"}},
                                                {DataKind::kCompletion, {"prompt", "completion"}},
                                                {DataKind::kCompletion, {"question", "answer"}},
                                                {DataKind::kTextRows, {"text"}}}};
  return rows;
}

}  // namespace

Row read_json_row(DataKind kind, std::string_view text, bool plain_strings) {
  Json json;
  try {
    json = parse_json(text, "");
  } catch (const Error& error) {
    throw RowError(DropReason::kBrokenJson, error.what());
  }
  if (!json.is_object()) {
    throw RowError(DropReason::kWrongType, fmt::format("the row is of type {}, expected an object", json.type_name()));
  }
  Row row = read_object(kind, json, plain_strings);
  if (row.messages.empty()) return row;
  add_tools(json, row);
  row.today = text_field_or(json, "today", "");
  return row;
}

Row read_text_row(std::string_view text) {
  if (const std::size_t valid = valid_utf8_prefix(text); valid != text.size()) {
    throw RowError(DropReason::kText, fmt::format("byte {} of the text is not UTF-8: convert the file first", valid));
  }
  Row row;
  row.parts.push_back({std::string(text), true});
  return row;
}

DataKind recognise_rows(std::span<const std::string_view> first_rows, const std::string& where) {
  std::string fields;
  for (const std::string_view text : first_rows) {
    Json json;
    try {
      json = parse_json(text, where);
    } catch (const Error&) {
      continue;  // the loader counts it, if another row tells the kind
    }
    if (!json.is_object()) continue;
    for (const KnownRow& known : known_rows()) {
      if (std::all_of(known.fields.begin(), known.fields.end(), [&](const char* key) { return json.contains(key); }))
        return known.kind;
    }
    if (!fields.empty()) continue;
    for (const auto& [key, value] : json.items()) fields += (fields.empty() ? "\"" : ", \"") + key + "\"";
  }
  if (first_rows.empty()) fail(ErrorKind::kBadInput, where, "the file has no rows");
  fail(ErrorKind::kBadInput, where,
       "cannot tell what the rows hold: {}; expected \"text\", \"messages\", \"conversations\", \"instruction\" and \"output\", "
       "\"prompt\" "
       "and \"completion\", \"chosen\" and \"rejected\", or \"prompt\" and \"answers\"",
       fields.empty() ? "the first ones are not JSON objects" : "the first has the fields " + fields);
}

}  // namespace puna
