// SPDX-License-Identifier: Apache-2.0
// POST /v1/chat/completions: OpenAI's chat API, whole or as server-sent events.
#include <array>

#include "server/chat_prompt.h"
#include "server/routes/open_ai_fields.h"
#include "server/routes/open_ai_logprobs.h"
#include "server/routes/routes.h"

namespace puna::routes {
namespace {

constexpr auto kChatFields = [] {
  constexpr std::array<FieldRule, 22> kOwn = {{{"messages", FieldKind::kList, 0, 0, true},
                                               {"max_tokens", FieldKind::kInteger, 1, 1e9},
                                               {"max_completion_tokens", FieldKind::kInteger, 1, 1e9},
                                               {"logprobs", FieldKind::kBoolean},
                                               {"top_logprobs", FieldKind::kInteger, 0, 20},
                                               {"tools", FieldKind::kList, 0, 0, false, false},
                                               {"tool_choice", FieldKind::kTextOrObject, 0, 0, false, false},
                                               {"parallel_tool_calls", FieldKind::kBoolean, 0, 0, false, false},
                                               {"response_format", FieldKind::kObject, 0, 0, false, false},
                                               {"store", FieldKind::kBoolean},
                                               {"service_tier", FieldKind::kText, 0, 64},
                                               {"safety_identifier", FieldKind::kText, 0, 4096},
                                               {"prompt_cache_key", FieldKind::kText, 0, 4096},
                                               {"prompt_cache_retention", FieldKind::kText, 0, 64},
                                               {"reasoning_effort", FieldKind::kText, 0, 64},
                                               {"verbosity", FieldKind::kText, 0, 64},
                                               {"modalities", FieldKind::kList, 0, 8},
                                               {"audio", FieldKind::kObject},
                                               {"prediction", FieldKind::kObject},
                                               {"web_search_options", FieldKind::kObject},
                                               {"functions", FieldKind::kList},
                                               {"function_call", FieldKind::kTextOrObject}}};
  std::array<FieldRule, kOwn.size() + kWritingFields.size()> all{};
  std::copy(kWritingFields.begin(), kWritingFields.end(), std::copy(kOwn.begin(), kOwn.end(), all.begin()));
  return all;
}();

// What would change the answer if it were passed over.
void refuse_unsupported_chat(const Json& body) {
  for (const char* name : {"audio", "web_search_options", "functions", "function_call"}) {
    if (given_field(body, name) != nullptr)
      throw ApiError(400, "unsupported", name, fmt::format("\"{}\" cannot be done here", name));
  }
  if (const Json* modalities = given_field(body, "modalities"); modalities != nullptr && *modalities != Json::array({"text"}))
    throw ApiError(400, "unsupported", "modalities", "the only modality here is text");
}

Json message_json(const Answer& answer) {
  Json message = {{"role", "assistant"}, {"content", answer.message.content}, {"refusal", nullptr}, {"annotations", Json::array()}};
  if (answer.message.tool_calls.empty()) return message;
  if (answer.message.content.empty()) message["content"] = nullptr;
  Json calls = Json::array();
  for (const ToolCall& call : answer.message.tool_calls) {
    calls.push_back(
        {{"id", call.id}, {"type", "function"}, {"function", {{"name", call.name}, {"arguments", dump_json(call.arguments)}}}});
  }
  message["tool_calls"] = std::move(calls);
  return message;
}

// What all parts of one answer have in common.
struct ChatNaming {
  std::string id = random_id("chatcmpl-");
  std::int64_t created = unix_time();
  std::string model;

  Json part(const char* object, Json choices) const {
    return {{"id", id},
            {"object", object},
            {"created", created},
            {"model", model},
            {"system_fingerprint", nullptr},
            {"choices", std::move(choices)}};
  }
  Json chunk(int index, Json delta, Json finish_reason = nullptr, Json logprobs = nullptr) const {
    return part("chat.completion.chunk", Json::array({{{"index", index},
                                                       {"delta", std::move(delta)},
                                                       {"logprobs", std::move(logprobs)},
                                                       {"finish_reason", std::move(finish_reason)}}}));
  }
};

AnswerEvents whole_chat(const std::shared_ptr<Exchange>& exchange, const ChatNaming& naming, std::shared_ptr<ServedModel> model,
                        bool logprobs) {
  return {.begin = {},
          .text = {},
          .finished = {},
          .done = [exchange, naming, model = std::move(model), logprobs](std::span<const Answer> answers) {
            Json choices = Json::array();
            for (const Answer& answer : answers) {
              choices.push_back({{"index", choices.size()},
                                 {"message", message_json(answer)},
                                 {"logprobs", logprobs ? chat_logprobs(answer.generation.logprobs, *model) : Json()},
                                 {"finish_reason", answer.reason}});
            }
            Json response = naming.part("chat.completion", std::move(choices));
            response["usage"] = usage_json(answers);
            response["timings"] = timings_json(answers.front().generation);
            exchange->send_json(response);
          }};
}

void send_calls(Exchange& exchange, const ChatNaming& naming, int index, const Answer& answer) {
  Json::size_type number = 0;
  for (const ToolCall& call : answer.message.tool_calls) {
    exchange.event(naming.chunk(index, {{"tool_calls", Json::array({{{"index", number},
                                                                     {"id", call.id},
                                                                     {"type", "function"},
                                                                     {"function", {{"name", call.name}, {"arguments", ""}}}}})}}));
    exchange.event(naming.chunk(
        index, {{"tool_calls", Json::array({{{"index", number}, {"function", {{"arguments", dump_json(call.arguments)}}}}})}}));
    ++number;
  }
}

AnswerEvents streamed_chat(const std::shared_ptr<Exchange>& exchange, const ChatNaming& naming, std::shared_ptr<ServedModel> model,
                           bool logprobs, bool usage) {
  return {.begin = {},
          .text =
              [exchange, naming, model = std::move(model), logprobs](int index, std::string_view text,
                                                                     std::span<const SampledToken> tokens) {
                Json delta = Json::object();
                if (!text.empty()) delta["content"] = text;
                exchange->event(naming.chunk(index, std::move(delta), nullptr, logprobs ? chat_logprobs(tokens, *model) : Json()));
              },
          .finished =
              [exchange, naming](int index, const Answer& answer) {
                send_calls(*exchange, naming, index, answer);
                exchange->event(naming.chunk(index, Json::object(), answer.reason));
              },
          .done =
              [exchange, naming, usage](std::span<const Answer> answers) {
                if (usage) {
                  Json last = naming.part("chat.completion.chunk", Json::array());
                  last["usage"] = usage_json(answers);
                  last["timings"] = timings_json(answers.front().generation);
                  exchange->event(last);
                }
                exchange->end("data: [DONE]\n\n");
              }};
}

}  // namespace

std::span<const FieldRule> chat_fields() { return kChatFields; }

void chat_completions(Services& services, Asked exchange) {
  const Json body = parse_request(exchange->request().body);
  check_fields(body, kChatFields);
  refuse_unsupported_chat(body);
  const std::vector<Message> messages = read_messages(body);
  AnswerRequest request;
  request.options = writing_options(body, services);
  request.options.max_tokens =
      field_or<std::int64_t>(body, "max_completion_tokens", field_or<std::int64_t>(body, "max_tokens", -1));
  const bool logprobs = field_or(body, "logprobs", false);
  if (!logprobs && given_field(body, "top_logprobs") != nullptr)
    refuse_field("top_logprobs", "\"top_logprobs\" is for requests with \"logprobs\": true");
  if (logprobs) request.options.top_logprobs = field_or(body, "top_logprobs", 0);
  request.count = field_or(body, "n", 1);
  exchange->places().need(request.count, "n");
  const bool usage = wants_usage(body);
  const std::optional<AnswerShape> shape = written_shape(body);
  choose_model(services, body, request);
  prepare_chat(services, body, messages, request);
  if (shape && request.shape)
    refuse_field("grammar", "give one of \"response_format\", \"tools\", \"grammar\", \"regex\" and \"choice\"");
  if (shape) request.shape = shape;

  const ChatNaming naming{.model = request.model->name_with(request.options.adapters.get())};
  const std::shared_ptr<ServedModel> model = request.model;
  if (!field_or(body, "stream", false))
    return ask(services, exchange, std::move(request), whole_chat(exchange, naming, model, logprobs));
  const int count = request.count;
  AnswerEvents events = streamed_chat(exchange, naming, model, logprobs, usage);
  events.begin = [exchange, naming, count] {
    exchange->begin_events();
    for (int i = 0; i < count; ++i) exchange->event(naming.chunk(i, {{"role", "assistant"}, {"content", ""}}));
  };
  ask(services, exchange, std::move(request), std::move(events));
}

}  // namespace puna::routes
