// SPDX-License-Identifier: Apache-2.0
// POST /api/chat and /api/generate: Ollama's two ways to ask a model, as lines of JSON unless "stream" is false. A request without
// messages, or without a prompt, loads the model, or unloads it where its "keep_alive" is 0.
#include <algorithm>
#include <array>

#include "server/chat_prompt.h"
#include "server/routes/ollama_answer.h"
#include "server/routes/routes.h"
#include "server/routes/written_tokens.h"

namespace puna::routes {
namespace {

template <std::size_t N>
constexpr auto with_ask_fields(const std::array<FieldRule, N>& own) {
  std::array<FieldRule, N + kOllamaAskFields.size()> all{};
  std::copy(kOllamaAskFields.begin(), kOllamaAskFields.end(), std::copy(own.begin(), own.end(), all.begin()));
  return all;
}

constexpr auto kOllamaChatFields =
    with_ask_fields(std::array<FieldRule, 2>{{{"messages", FieldKind::kList}, {"tools", FieldKind::kList}}});
constexpr auto kGenerateFields = with_ask_fields(std::array<FieldRule, 5>{{{"prompt", FieldKind::kText},
                                                                           {"system", FieldKind::kText},
                                                                           {"suffix", FieldKind::kText},
                                                                           {"raw", FieldKind::kBoolean},
                                                                           {"context", FieldKind::kList}}});
constexpr std::array<FieldRule, 7> kOllamaMessageFields = {{{"role", FieldKind::kText, 1, 32, true},
                                                            {"content", FieldKind::kText},
                                                            {"images", FieldKind::kList},
                                                            {"tool_calls", FieldKind::kList, 0, 128},
                                                            {"tool_name", FieldKind::kText, 0, 256},
                                                            {"tool_call_id", FieldKind::kText, 0, 256},
                                                            {"thinking", FieldKind::kText}}};
constexpr std::array<FieldRule, 3> kOllamaCallFields = {
    {{"function", FieldKind::kObject, 0, 0, true}, {"id", FieldKind::kText, 0, 256}, {"type", FieldKind::kText, 0, 32}}};
constexpr std::array<FieldRule, 3> kCalledFields = {
    {{"name", FieldKind::kText, 1, 256, true}, {"arguments", FieldKind::kObject}, {"index", FieldKind::kInteger, 0, 1000}}};

// A message as OpenAI has it: what chat_prompt.h reads.
Json open_ai_message(const Json& message, const std::string& place) {
  if (!message.is_object())
    throw ApiError(400, "invalid_type", place, fmt::format("\"{}\" is {}, expected an object", place, message.type_name()));
  check_fields(message, kOllamaMessageFields, place + ".");
  if (const Json* images = given_field(message, "images"); images != nullptr && !images->empty())
    throw ApiError(400, "unsupported", place + ".images", "\"images\" cannot be read here: the models are for text");
  if (!field_or<std::string>(message, "thinking", "").empty())
    throw ApiError(400, "unsupported", place + ".thinking", "\"thinking\" has no place in a prompt here: leave it out");
  Json open_ai = {{"role", message.at("role")}, {"content", field_or<std::string>(message, "content", "")}};
  if (const Json* id = given_field(message, "tool_call_id")) open_ai["tool_call_id"] = *id;
  const Json* calls = given_field(message, "tool_calls");
  if (calls == nullptr || calls->empty()) return open_ai;
  open_ai["tool_calls"] = Json::array();
  for (const Json& call : *calls) {
    const std::string call_place = fmt::format("{}.tool_calls[{}]", place, open_ai["tool_calls"].size());
    if (!call.is_object()) refuse_field(call_place, "\"{}\" is {}, expected an object", call_place, call.type_name());
    check_fields(call, kOllamaCallFields, call_place + ".");
    const Json& function = call.at("function");
    check_fields(function, kCalledFields, call_place + ".function.");
    const Json* arguments = given_field(function, "arguments");
    Json named = {{"name", function.at("name")}, {"arguments", arguments == nullptr ? Json::object() : *arguments}};
    open_ai["tool_calls"].push_back({{"type", "function"}, {"function", std::move(named)}});
    if (const Json* id = given_field(call, "id")) open_ai["tool_calls"].back()["id"] = *id;
  }
  return open_ai;
}

std::vector<Message> chat_messages(const Json& body) {
  Json list = Json::array();
  for (const Json& message : body.at("messages"))
    list.push_back(open_ai_message(message, fmt::format("messages[{}]", list.size())));
  return read_messages({{"messages", std::move(list)}});
}

// What is said of a request that asks for nothing.
void load_only(Services& services, Asked exchange, const std::string& name, const OllamaForm& form,
               std::optional<std::chrono::seconds> keep_alive, bool stream) {
  if (exchange->right() < Right::kManage) throw lacks_rights();
  const bool unload = keep_alive == std::chrono::seconds(0);
  if (unload) {
    services.models.unload(name);
  } else {
    load_model(services, form.model, keep_alive);
  }
  const Json answer = form.ended(unload ? "unload" : "load");
  if (!stream) return exchange->send_json(answer);
  exchange->begin_lines();
  exchange->line(answer);
  exchange->end();
}

// Whether a prompt is written as it is: as asked, or for a model that was trained on no conversations.
bool is_raw(const Json& body, const Checkpoint& checkpoint) {
  return field_or(body, "raw", false) || (!checkpoint.prompt_format && checkpoint.chat_template.empty());
}

// "raw" says that the prompt is written as the model has it, so special tokens are read in it; in a text for a model without a
// format they are characters.
std::vector<Token> raw_prompt(const Json& body, const Tokenizer& tokenizer) {
  std::vector<Token> tokens = written_tokens(body.at("prompt"), "prompt", tokenizer, field_or(body, "raw", false));
  const bool begun_twice = tokens.size() > 1 && tokenizer.bos() && tokens[0] == *tokenizer.bos() && tokens[1] == tokens[0];
  if (begun_twice) tokens.erase(tokens.begin());
  return tokens;
}

std::vector<Message> generate_messages(const Json& body) {
  std::vector<Message> messages;
  if (const std::string system = field_or<std::string>(body, "system", ""); !system.empty())
    messages.push_back({.role = Role::kSystem, .content = system, .tool_calls = {}, .tool_call_id = ""});
  messages.push_back({.role = Role::kUser, .content = body.at("prompt").get<std::string>(), .tool_calls = {}, .tool_call_id = ""});
  return messages;
}

void refuse_unsupported_generate(const Json& body) {
  refuse_unsupported_ollama(body);
  if (const Json* context = given_field(body, "context"); context != nullptr && !context->empty())
    throw ApiError(400, "unsupported", "context", "\"context\" cannot be taken here: send the conversation to /api/chat");
  if (field_or(body, "raw", false) && !field_or<std::string>(body, "system", "").empty())
    refuse_field("system", "\"system\" has no place where \"raw\" is true: write it into the prompt");
}

OllamaForm form_of(const Json& body, bool chat) {
  return {.model = body.at("model").get<std::string>(), .chat = chat, .logprobs = field_or(body, "logprobs", false)};
}

}  // namespace

std::span<const FieldRule> ollama_chat_fields() { return kOllamaChatFields; }
std::span<const FieldRule> ollama_generate_fields() { return kGenerateFields; }

void ollama_chat(Services& services, Asked exchange) {
  const Json body = parse_request(exchange->request().body);
  check_fields(body, kOllamaChatFields);
  refuse_unsupported_ollama(body);
  const bool stream = field_or(body, "stream", true);
  OllamaForm form = form_of(body, true);
  const std::string name = known_model(services, form.model);
  const auto keep_alive = keep_alive_of(body, exchange->right());
  AnswerRequest request;
  request.options = ollama_options(body, services);
  const Json shaping = shaping_fields(body);
  const Json* list = given_field(body, "messages");
  if (list == nullptr || list->empty()) return load_only(services, exchange, name, form, keep_alive, stream);
  const std::vector<Message> messages = chat_messages(body);
  const LoadedModel loaded = load_model(services, form.model, keep_alive);
  form.load_seconds = loaded.seconds;
  request.model = loaded.model;
  request.options.adapters = loaded.adapters;
  check_wanted_context(body, *request.model);
  prepare_chat(services, shaping, messages, request);
  answer_in_lines(services, exchange, std::move(request), form, stream);
}

void ollama_generate(Services& services, Asked exchange) {
  const Json body = parse_request(exchange->request().body);
  check_fields(body, kGenerateFields);
  refuse_unsupported_generate(body);
  const bool stream = field_or(body, "stream", true);
  OllamaForm form = form_of(body, false);
  const std::string name = known_model(services, form.model);
  const auto keep_alive = keep_alive_of(body, exchange->right());
  AnswerRequest request;
  request.options = ollama_options(body, services);
  const Json shaping = shaping_fields(body);
  if (field_or<std::string>(body, "prompt", "").empty()) return load_only(services, exchange, name, form, keep_alive, stream);
  const LoadedModel loaded = load_model(services, form.model, keep_alive);
  form.load_seconds = loaded.seconds;
  request.model = loaded.model;
  request.options.adapters = loaded.adapters;
  check_wanted_context(body, *request.model);
  const Checkpoint& checkpoint = request.model->checkpoint();
  if (is_raw(body, checkpoint)) {
    if (!field_or<std::string>(body, "system", "").empty())
      refuse_field("system", "{} was trained on no conversations, so it has no place for \"system\"", form.model);
    request.prompts = {raw_prompt(body, checkpoint.need_tokenizer())};
    request.shape = answer_shape(shaping, request.format, {}, "format");
  } else {
    prepare_chat(services, shaping, generate_messages(body), request);
  }
  answer_in_lines(services, exchange, std::move(request), form, stream);
}

}  // namespace puna::routes
