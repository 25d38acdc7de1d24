// SPDX-License-Identifier: Apache-2.0
// POST /v1/responses: OpenAI's Responses API, whole or as named server-sent events. What surprises: nothing is kept, every request
// holds all of its conversation.
#include <array>
#include <utility>

#include "server/chat_prompt.h"
#include "server/responses_input.h"
#include "server/routes/open_ai_fields.h"
#include "server/routes/open_ai_logprobs.h"
#include "server/routes/routes.h"

namespace puna::routes {
namespace {

Json or_null(const Json& body, const char* name) {
  const Json* value = given_field(body, name);
  return value == nullptr ? Json() : *value;
}

template <typename T>
Json or_else(const Json& body, const char* name, T otherwise) {
  const Json* value = given_field(body, name);
  return value == nullptr ? Json(std::move(otherwise)) : *value;
}

// The response object before anything is written: what was asked for, and what it was answered with.
Json begun_response(const Json& body, const std::string& model, const SamplerOptions& sampler) {
  Json response = {{"id", random_id("resp_")},
                   {"object", "response"},
                   {"created_at", unix_time()},
                   {"status", "in_progress"},
                   {"background", false},
                   {"error", nullptr},
                   {"incomplete_details", nullptr},
                   {"model", model},
                   {"output", Json::array()},
                   {"parallel_tool_calls", or_else(body, "parallel_tool_calls", true)},
                   {"previous_response_id", nullptr},
                   {"reasoning", {{"effort", nullptr}, {"summary", nullptr}}},
                   {"service_tier", "default"},
                   {"store", false},
                   {"temperature", sampler.temperature},
                   {"text", or_else(body, "text", Json::object())},
                   {"tool_choice", or_else(body, "tool_choice", "auto")},
                   {"tools", or_else(body, "tools", Json::array())},
                   {"top_logprobs", or_else(body, "top_logprobs", 0)},
                   {"top_p", sampler.top_p},
                   {"truncation", "disabled"},
                   {"usage", nullptr},
                   {"metadata", or_else(body, "metadata", Json::object())}};
  if (given_field(response["text"], "format") == nullptr) response["text"]["format"] = {{"type", "text"}};
  for (const char* name : {"instructions", "max_output_tokens", "max_tool_calls", "prompt_cache_key", "safety_identifier", "user"})
    response[name] = or_null(body, name);
  return response;
}

Json text_part(std::string_view text, Json logprobs) {
  return {{"type", "output_text"}, {"text", text}, {"annotations", Json::array()}, {"logprobs", std::move(logprobs)}};
}

Json message_item(const std::string& id, const char* status, Json content) {
  return {{"type", "message"}, {"id", id}, {"status", status}, {"role", "assistant"}, {"content", std::move(content)}};
}

Json call_item(const std::string& id, const char* status, const ToolCall& call, std::string arguments) {
  return {{"type", "function_call"}, {"id", id},         {"call_id", call.id},
          {"name", call.name},       {"status", status}, {"arguments", std::move(arguments)}};
}

bool is_whole(const Answer& answer) { return answer.reason != "length"; }

void end_response(const Answer& answer, Json output, Json& response) {
  response["status"] = is_whole(answer) ? "completed" : "incomplete";
  if (!is_whole(answer)) response["incomplete_details"] = {{"reason", "max_output_tokens"}};
  response["output"] = std::move(output);
  const Generation& generation = answer.generation;
  const auto written = static_cast<std::int64_t>(generation.tokens.size());
  response["usage"] = {{"input_tokens", generation.prompt_tokens},
                       {"input_tokens_details", {{"cached_tokens", generation.cached_tokens}}},
                       {"output_tokens", written},
                       {"output_tokens_details", {{"reasoning_tokens", 0}}},
                       {"total_tokens", generation.prompt_tokens + written}};
}

// One answer's items, told as they come where the exchange streams, and gathered for the whole response.
class ItemWriter {
 public:
  ItemWriter(std::shared_ptr<Exchange> exchange, std::shared_ptr<ServedModel> model, Json response, bool stream, bool logprobs)
      : exchange_(std::move(exchange)),
        model_(std::move(model)),
        response_(std::move(response)),
        stream_(stream),
        logprobs_(logprobs) {}

  void begin() {
    if (!stream_) return;
    exchange_->begin_events();
    tell("response.created", {{"response", response_}});
    tell("response.in_progress", {{"response", response_}});
  }

  void text(std::string_view text, std::span<const SampledToken> tokens) {
    if (message_id_.empty()) begin_message();
    text_ += text;
    const Json logprobs = logprobs_ ? chat_logprobs(tokens, *model_).at("content") : Json::array();
    text_logprobs_.insert(text_logprobs_.end(), logprobs.begin(), logprobs.end());
    tell_part("response.output_text.delta", {{"delta", text}, {"logprobs", logprobs}});
  }

  void finish(const Answer& answer) {
    const char* status = is_whole(answer) ? "completed" : "incomplete";
    if (!message_id_.empty()) end_message(status);
    for (const ToolCall& call : answer.message.tool_calls) add_call(call);
    end_response(answer, std::move(output_), response_);
    if (!stream_) return exchange_->send_json(response_);
    tell(is_whole(answer) ? "response.completed" : "response.incomplete", {{"response", response_}});
    exchange_->end();
  }

 private:
  void tell(const char* type, Json data) {
    if (!stream_) return;
    data["type"] = type;
    data["sequence_number"] = sequence_++;
    exchange_->event(data, type);
  }
  void tell_item(const char* type, Json item) { tell(type, {{"output_index", output_.size()}, {"item", std::move(item)}}); }
  void tell_part(const char* type, Json data) {
    data["item_id"] = message_id_;
    data["output_index"] = output_.size();
    data["content_index"] = 0;
    tell(type, std::move(data));
  }

  void begin_message() {
    message_id_ = random_id("msg_");
    tell_item("response.output_item.added", message_item(message_id_, "in_progress", Json::array()));
    tell_part("response.content_part.added", {{"part", text_part("", Json::array())}});
  }

  void end_message(const char* status) {
    const Json part = text_part(text_, text_logprobs_);
    tell_part("response.output_text.done", {{"text", text_}, {"logprobs", text_logprobs_}});
    tell_part("response.content_part.done", {{"part", part}});
    add_item(message_item(message_id_, status, Json::array({part})));
  }

  void add_call(const ToolCall& call) {
    const std::string id = random_id("fc_"), arguments = dump_json(call.arguments);
    tell_item("response.output_item.added", call_item(id, "in_progress", call, ""));
    const Json place = {{"item_id", id}, {"output_index", output_.size()}};
    Json delta = place, done = place;
    delta["delta"] = arguments;
    done["arguments"] = arguments;
    done["name"] = call.name;
    tell("response.function_call_arguments.delta", std::move(delta));
    tell("response.function_call_arguments.done", std::move(done));
    add_item(call_item(id, "completed", call, arguments));
  }

  void add_item(Json item) {
    tell_item("response.output_item.done", item);
    output_.push_back(std::move(item));
  }

  std::shared_ptr<Exchange> exchange_;
  std::shared_ptr<ServedModel> model_;
  Json response_;
  bool stream_, logprobs_;
  int sequence_ = 0;
  Json output_ = Json::array();  // items that are done
  std::string message_id_, text_;
  Json text_logprobs_ = Json::array();
};

}  // namespace

std::span<const FieldRule> response_fields() { return kResponsesFields; }

void responses(Services& services, Asked exchange) {
  const Json body = parse_request(exchange->request().body);
  check_fields(body, kResponsesFields);
  const Json chat = chat_of_responses(body);
  AnswerRequest request;
  request.prompt_field = "input";
  request.length_field = "max_output_tokens";
  request.options = writing_options(chat, services);
  request.options.max_tokens = field_or<std::int64_t>(body, "max_output_tokens", -1);
  const bool logprobs = wants_logprobs(body);
  if (logprobs) request.options.top_logprobs = field_or(body, "top_logprobs", 0);
  choose_model(services, body, request);
  prepare_chat(services, chat, read_messages(chat), request);

  const auto writer = std::make_shared<ItemWriter>(
      exchange, request.model,
      begun_response(body, request.model->name_with(request.options.adapters.get()), request.options.sampler),
      field_or(body, "stream", false), logprobs);
  ask(services, exchange, std::move(request),
      {.begin = [writer] { writer->begin(); },
       .text = [writer](int, std::string_view text, std::span<const SampledToken> tokens) { writer->text(text, tokens); },
       .finished = {},
       .done = [writer](std::span<const Answer> answers) { writer->finish(answers.front()); }});
}

}  // namespace puna::routes
