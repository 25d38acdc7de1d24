// SPDX-License-Identifier: Apache-2.0
// POST /v1/messages and /v1/messages/count_tokens: Anthropic's Messages API, whole or as server-sent events:
//   message_start, (content_block_start, content_block_delta …, content_block_stop) …, message_delta, message_stop
#include <algorithm>
#include <array>

#include "server/anthropic_prompt.h"
#include "server/chat_prompt.h"
#include "server/routes/open_ai_fields.h"
#include "server/routes/routes.h"

namespace puna::routes {
namespace {

constexpr auto kMessagesFields = [] {
  std::array<FieldRule, kAnthropicPromptFields.size() + kAnthropicWritingFields.size()> all{};
  std::ranges::copy(kAnthropicWritingFields, std::ranges::copy(kAnthropicPromptFields, all.begin()).out);
  return all;
}();

// The model, and what it reads.
void read_prompt(Services& services, const Json& body, const AnthropicRequest& read, AnswerRequest& request) {
  choose_model(services, body, request);
  prepare_chat(services, read.chat, read_messages(read.chat), request);
  const std::vector<Token> prefill = request.model->checkpoint().need_tokenizer().encode(read.prefill);
  std::vector<Token>& prompt = request.prompts.front();
  prompt.insert(prompt.end(), prefill.begin(), prefill.end());
}

// More than the context has left is all that it has left, and then "model_context_window_exceeded" says so.
std::int64_t most_tokens(const Json& body, const AnswerRequest& request) {
  const auto asked = body.at("max_tokens").get<std::int64_t>();
  return asked > request.model->context() - static_cast<std::int64_t>(request.prompts.front().size()) ? -1 : asked;
}

std::string_view stop_reason(const Answer& answer) {
  if (answer.reason == "tool_calls") return "tool_use";
  switch (answer.generation.reason) {
    case FinishReason::kContextFull:
      return "model_context_window_exceeded";
    case FinishReason::kLength:
      return "max_tokens";
    case FinishReason::kStopString:
      return "stop_sequence";
    default:
      return "end_turn";
  }
}

Json stop_sequence(const Answer& answer) { return answer.stop.empty() ? Json() : Json(answer.stop); }

// Tokens of the prompt that were known already are counted apart.
Json usage_of(std::int64_t prompt, std::int64_t cached, std::size_t written) {
  return {{"input_tokens", prompt - cached},
          {"cache_creation_input_tokens", 0},
          {"cache_read_input_tokens", cached},
          {"output_tokens", written}};
}

Json usage_of(const Generation& generation) {
  return usage_of(generation.prompt_tokens, generation.cached_tokens, generation.tokens.size());
}

Json message_json(const std::string& id, const std::string& model, Json content, Json reason, Json stop, Json usage) {
  return {{"id", id},
          {"type", "message"},
          {"role", "assistant"},
          {"model", model},
          {"content", std::move(content)},
          {"stop_reason", std::move(reason)},
          {"stop_sequence", std::move(stop)},
          {"usage", std::move(usage)}};
}

Json use_block(const ToolCall& call, Json input) {
  return {{"type", "tool_use"}, {"id", call.id}, {"name", call.name}, {"input", std::move(input)}};
}

AnswerEvents whole_message(const std::shared_ptr<Exchange>& exchange, const std::string& model) {
  return {.begin = {}, .text = {}, .finished = {}, .done = [exchange, model](std::span<const Answer> answers) {
            const Answer& answer = answers.front();
            Json content = Json::array();
            if (!answer.message.content.empty()) content.push_back({{"type", "text"}, {"text", answer.message.content}});
            for (const ToolCall& call : answer.message.tool_calls) content.push_back(use_block(call, call.arguments));
            exchange->send_json(message_json(random_id("msg_"), model, std::move(content), stop_reason(answer),
                                             stop_sequence(answer), usage_of(answer.generation)));
          }};
}

// The blocks of an answer as they come: text first, then each call.
class BlockStream {
 public:
  explicit BlockStream(std::shared_ptr<Exchange> exchange) : exchange_(std::move(exchange)) {}

  void begin(const std::string& model, std::int64_t prompt_tokens) {
    exchange_->begin_events();
    tell("message_start",
         {{"message", message_json(random_id("msg_"), model, Json::array(), nullptr, nullptr, usage_of(prompt_tokens, 0, 0))}});
    tell("ping", Json::object());
  }

  void text(std::string_view text) {
    if (!in_text_) start({{"type", "text"}, {"text", ""}});
    in_text_ = true;
    delta({{"type", "text_delta"}, {"text", text}});
  }

  void finish(const Answer& answer) {
    if (in_text_) stop();
    for (const ToolCall& call : answer.message.tool_calls) {
      start(use_block(call, Json::object()));
      delta({{"type", "input_json_delta"}, {"partial_json", dump_json(call.arguments)}});
      stop();
    }
    tell("message_delta", {{"delta", {{"stop_reason", stop_reason(answer)}, {"stop_sequence", stop_sequence(answer)}}},
                           {"usage", usage_of(answer.generation)}});
    tell("message_stop", Json::object());
    exchange_->end();
  }

 private:
  void tell(const char* type, Json data) {
    data["type"] = type;
    exchange_->event(data, type);
  }
  void start(Json block) { tell("content_block_start", {{"index", index_}, {"content_block", std::move(block)}}); }
  void delta(Json delta) { tell("content_block_delta", {{"index", index_}, {"delta", std::move(delta)}}); }
  void stop() { tell("content_block_stop", {{"index", index_++}}); }

  std::shared_ptr<Exchange> exchange_;
  int index_ = 0;
  bool in_text_ = false;
};

AnswerEvents streamed_message(const std::shared_ptr<Exchange>& exchange, const std::string& model, std::int64_t prompt_tokens) {
  const auto stream = std::make_shared<BlockStream>(exchange);
  return {.begin = [stream, model, prompt_tokens] { stream->begin(model, prompt_tokens); },
          .text = [stream](int, std::string_view text, std::span<const SampledToken>) { stream->text(text); },
          .finished = {},
          .done = [stream](std::span<const Answer> answers) { stream->finish(answers.front()); }};
}

}  // namespace

std::span<const FieldRule> message_fields() { return kMessagesFields; }

void messages(Services& services, Asked exchange) {
  const Json body = parse_request(exchange->request().body);
  check_fields(body, kMessagesFields);
  const AnthropicRequest read = read_anthropic(body);
  AnswerRequest request;
  request.options = writing_options(read.chat, services);
  request.call_prefix = "toolu_";
  read_prompt(services, body, read, request);
  request.options.max_tokens = most_tokens(body, request);
  const std::string model = request.model->name_with(request.options.adapters.get());
  const auto prompt_tokens = static_cast<std::int64_t>(request.prompts.front().size());
  ask(services, exchange, std::move(request),
      field_or(body, "stream", false) ? streamed_message(exchange, model, prompt_tokens) : whole_message(exchange, model));
}

std::span<const FieldRule> count_message_fields() { return kAnthropicPromptFields; }

void count_message_tokens(Services& services, Asked exchange) {
  const Json body = parse_request(exchange->request().body);
  check_fields(body, kAnthropicPromptFields);
  AnswerRequest request;
  read_prompt(services, body, read_anthropic(body), request);
  exchange->send_json({{"input_tokens", request.prompts.front().size()}});
}

}  // namespace puna::routes
