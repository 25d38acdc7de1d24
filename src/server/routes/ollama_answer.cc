// SPDX-License-Identifier: Apache-2.0
#include "server/routes/ollama_answer.h"

#include "server/routes/open_ai_logprobs.h"

namespace puna {
namespace {

// [{"id", "function": {"index", "name", "arguments": {…}}}]
Json calls_json(const Answer& answer) {
  Json calls = Json::array();
  for (const ToolCall& call : answer.message.tool_calls) {
    const std::size_t index = calls.size();
    calls.push_back({{"id", call.id}, {"function", {{"index", index}, {"name", call.name}, {"arguments", call.arguments}}}});
  }
  return calls;
}

void add_end(Json& line, const OllamaForm& form, const Exchange& exchange, const Answer& answer) {
  const Generation& generation = answer.generation;
  line["done_reason"] = answer.reason == "length" ? "length" : "stop";
  line["total_duration"] = nanoseconds(exchange.seconds());
  line["load_duration"] = nanoseconds(form.load_seconds);
  line["prompt_eval_count"] = generation.prompt_tokens;
  line["prompt_eval_duration"] = nanoseconds(generation.prefill_seconds);
  line["eval_count"] = generation.tokens.size();
  line["eval_duration"] = nanoseconds(generation.decode_seconds);
}

// [{"token", "logprob", "bytes", "top_logprobs"}], as OpenAI has them.
Json logprobs_json(std::span<const SampledToken> tokens, const ServedModel& model) {
  return chat_logprobs(tokens, model).at("content");
}

AnswerEvents whole_ollama_answer(const std::shared_ptr<Exchange>& exchange, const OllamaForm& form,
                                 std::shared_ptr<ServedModel> model) {
  return {
      .begin = {}, .text = {}, .finished = {}, .done = [exchange, form, model = std::move(model)](std::span<const Answer> answers) {
        const Answer& answer = answers.front();
        Json line = form.line(answer.message.content, true);
        if (!answer.message.tool_calls.empty()) line["message"]["tool_calls"] = calls_json(answer);
        if (form.logprobs) line["logprobs"] = logprobs_json(answer.generation.logprobs, *model);
        add_end(line, form, *exchange, answer);
        exchange->send_json(line);
      }};
}

AnswerEvents streamed_ollama_answer(const std::shared_ptr<Exchange>& exchange, const OllamaForm& form,
                                    std::shared_ptr<ServedModel> model) {
  return {.begin = [exchange] { exchange->begin_lines(); },
          .text =
              [exchange, form, model = std::move(model)](int, std::string_view text, std::span<const SampledToken> tokens) {
                Json line = form.line(text);
                if (form.logprobs) line["logprobs"] = logprobs_json(tokens, *model);
                exchange->line(line);
              },
          .finished =
              [exchange, form](int, const Answer& answer) {
                if (answer.message.tool_calls.empty()) return;
                Json line = form.line("");
                line["message"]["tool_calls"] = calls_json(answer);
                exchange->line(line);
              },
          .done =
              [exchange, form](std::span<const Answer> answers) {
                Json line = form.line("", true);
                add_end(line, form, *exchange, answers.front());
                exchange->line(line);
                exchange->end();
              }};
}

}  // namespace

Json OllamaForm::line(std::string_view text, bool done) const {
  Json value = {{"model", model}, {"created_at", rfc3339(std::chrono::system_clock::now())}};
  if (chat) {
    value["message"] = {{"role", "assistant"}, {"content", text}};
  } else {
    value["response"] = text;
  }
  value["done"] = done;
  return value;
}

Json OllamaForm::ended(std::string_view reason) const {
  Json value = line("", true);
  value["done_reason"] = reason;
  return value;
}

void answer_in_lines(Services& services, const std::shared_ptr<Exchange>& exchange, AnswerRequest request, const OllamaForm& form,
                     bool stream) {
  const std::shared_ptr<ServedModel> model = request.model;
  ask(services, exchange, std::move(request),
      stream ? streamed_ollama_answer(exchange, form, model) : whole_ollama_answer(exchange, form, model));
}

}  // namespace puna
