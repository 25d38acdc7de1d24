// SPDX-License-Identifier: Apache-2.0
#include "server/answering.h"

#include <algorithm>
#include <chrono>
#include <random>
#include <utility>

#include "base/error.h"
#include "server/job_group.h"
#include "server/request_json.h"

namespace puna {
namespace {

std::string_view reason_of(const Answer& answer) {
  const FinishReason reason = answer.generation.reason;
  if (reason == FinishReason::kLength || reason == FinishReason::kContextFull) return "length";
  return answer.message.tool_calls.empty() ? "stop" : "tool_calls";
}

// The answers to one request while they are written. Its jobs hold it.
class Asking : public std::enable_shared_from_this<Asking> {
 public:
  Asking(Services& services, std::shared_ptr<Exchange> exchange, const AnswerRequest& request, AnswerEvents events)
      : services_(services),
        exchange_(std::move(exchange)),
        jobs_(request.model),
        events_(std::move(events)),
        answers_(request.prompts.size() * static_cast<std::size_t>(request.count)),
        untold_(answers_.size()),
        left_(answers_.size()),
        one_call_(request.one_call),
        call_prefix_(request.call_prefix) {
    filters_.assign(answers_.size(), AnswerFilter(request.format, request.tools));
  }

  void start(AnswerRequest request) {
    exchange_->on_gone([weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->jobs_.cancel();
    });
    exchange_->on_backlog([weak = weak_from_this()](bool full) {
      if (const auto self = weak.lock()) self->jobs_.set_paused(full);
    });
    const auto asked = std::make_shared<const AnswerRequest>(std::move(request));
    for (std::size_t i = 0; i < asked->prompts.size(); ++i) asked->prompt_logprobs < 0 ? write(*asked, i) : score(asked, i);
  }

 private:
  void score(const std::shared_ptr<const AnswerRequest>& request, std::size_t prompt) {
    ScoreRequest text{
        .tokens = request->prompts[prompt], .from = 0, .top = request->prompt_logprobs, .adapters = request->options.adapters};
    const auto self = shared_from_this();
    const auto done = [self, request, prompt](const std::vector<SampledToken>& tokens) {
      self->guarded([&] {
        if (self->events_.prompt) self->events_.prompt(prompt, tokens);
        self->write(*request, prompt);
      });
    };
    jobs_.hold(jobs_.model().submit(std::move(text), {.done = done, .failed = [self](const Error& error) { self->fail(error); }}));
  }

  void write(const AnswerRequest& request, std::size_t prompt) {
    const auto count = static_cast<std::size_t>(request.count);
    for (std::size_t j = 0; j < count; ++j) {
      const std::size_t index = prompt * count + j;
      GenerateOptions options = request.options;
      options.sampler.seed += j;
      if (index > 0 && request.shape) options.constraint = jobs_.model().constraints().get(*request.shape);
      answers_[index].prompt = prompt;
      jobs_.hold(jobs_.model().submit(request.prompts[prompt], options, events_of(index, options.top_logprobs >= 0)));
    }
  }

  Scheduler::Events events_of(std::size_t index, bool logprobs) {
    const auto self = shared_from_this();
    Scheduler::Events events{
        .text = [self, index](std::string_view text) { self->guarded([&] { self->text(index, text); }); },
        .done = [self, index](const Generation& generation) { self->guarded([&] { self->finish(index, generation); }); },
        .failed = [self](const Error& error) { self->fail(error); }};
    if (logprobs && events_.text)
      events.token = [self, index](const SampledToken& token, std::string_view) { self->untold_[index].push_back(token); };
    return events;
  }

  // What is thrown here must not reach the scheduler, which writes others' answers too.
  template <typename Action>
  void guarded(Action action) {
    try {
      action();
    } catch (const Error& error) {
      fail(error);
    } catch (const std::exception& error) {
      fail(Error(ErrorKind::kInternal, "", error.what()));
    }
  }

  void text(std::size_t index, std::string_view text) {
    if (first_text_ < 0) first_text_ = exchange_->seconds();
    tell(index, filters_[index].push(text));
  }

  void tell(std::size_t index, std::string_view text) {
    if (text.empty() || !events_.text) return;
    events_.text(static_cast<int>(index), text, untold_[index]);
    untold_[index].clear();
  }

  void finish(std::size_t index, const Generation& generation) {
    Answer& answer = answers_[index];
    AnswerFilter::Ended ended = filters_[index].finish();
    answer.message = std::move(ended.message);
    if (one_call_ && answer.message.tool_calls.size() > 1) answer.message.tool_calls.resize(1);
    answer.generation = generation;
    answer.reason = reason_of(answer);
    answer.stop = generation.stop;
    for (ToolCall& call : answer.message.tool_calls) call.id = random_id(call_prefix_);
    services_.metrics.count_answer(first_text_ < 0 ? exchange_->seconds() : first_text_, generation);
    tell(index, ended.rest);
    if (!untold_[index].empty()) events_.text(static_cast<int>(index), "", untold_[index]);
    if (events_.finished) events_.finished(static_cast<int>(index), answer);
    if (--left_ == 0) return events_.done(answers_);
    exchange_->places().give_back(1);
  }

  void fail(const Error& error) {
    if (error.kind() == ErrorKind::kInternal)
      fmt::print(stderr, "puna: {} {}: {}\n", exchange_->id(), jobs_.model().id(), error.what());
    exchange_->fail(ApiError::from(error));
    jobs_.cancel();
  }

  Services& services_;
  std::shared_ptr<Exchange> exchange_;
  JobGroup jobs_;
  AnswerEvents events_;
  std::vector<AnswerFilter> filters_;
  std::vector<Answer> answers_;
  std::vector<std::vector<SampledToken>> untold_;  // of each answer
  std::size_t left_;
  bool one_call_;
  std::string_view call_prefix_;
  double first_text_ = -1;
};

// What the engine would refuse later, when the answer has begun.
void check_prompt(const AnswerRequest& request, std::span<const Token> prompt) {
  const auto tokens = static_cast<std::int64_t>(prompt.size());
  const std::int64_t context = request.model->context();
  if (tokens == 0)
    throw ApiError(400, "invalid_value", request.prompt_field, "the prompt is empty: there is nothing to go on from");
  if (tokens >= context) {
    throw ApiError(
        400, "context_length_exceeded", request.prompt_field,
        fmt::format("the prompt has {} tokens, and the context of {} holds {}, one of them for the answer: nothing is cut "
                    "off in silence",
                    tokens, request.model->id(), context));
  }
  if (request.options.max_tokens > 0 && tokens + request.options.max_tokens > context) {
    throw ApiError(
        400, "context_length_exceeded", request.length_field,
        fmt::format("the prompt has {} tokens and the answer may have {}, which is more than the context of {} holds: {}", tokens,
                    request.options.max_tokens, request.model->id(), context));
  }
}

void check(const AnswerRequest& request) {
  for (const std::vector<Token>& prompt : request.prompts) check_prompt(request, prompt);
  check_sampler_options(request.options.sampler);
  if (request.shape && request.options.ignore_end)
    refuse_field("ignore_eos", "\"ignore_eos\" cannot be true here: an answer that has a shape ends where that does");
  const Checkpoint& checkpoint = request.model->checkpoint();
  const std::int64_t tokens = std::min<std::int64_t>(checkpoint.config.vocabulary, checkpoint.need_tokenizer().size());
  for (const auto& [token, bias] : request.options.sampler.logit_bias) {
    if (id(token) >= tokens) refuse_field("logit_bias", "\"logit_bias\" has the token {}, and ids are below {}", id(token), tokens);
  }
}

// "[tool f#/properties/a] …" -> "tools[1]", where f is the second; "" for another error.
std::string tool_at_fault(std::string_view message, std::span<const Tool> tools) {
  for (std::size_t i = 0; i < tools.size(); ++i) {
    const std::string place = "[tool " + tools[i].name;
    if (message.starts_with(place + "#") || message.starts_with(place + "]")) return fmt::format("tools[{}]", i);
  }
  return "";
}

// Throws ApiError naming the field that asks for what cannot be followed.
std::shared_ptr<Constraint> constraint_of(AnswerRequest& request) {
  try {
    return request.model->constraints().get(*request.shape);
  } catch (const Error& error) {
    if (request.shape_may_lapse && error.kind() == ErrorKind::kUnsupported) {
      request.shape.reset();
      return nullptr;
    }
    const std::string tool = tool_at_fault(error.what(), request.tools);
    if (tool.empty()) throw;
    throw ApiError(400, error.kind() == ErrorKind::kUnsupported ? "unsupported" : "invalid_value", tool, error.what());
  }
}

}  // namespace

void choose_model(Services& services, const Json& body, AnswerRequest& request) {
  const auto name = field_or<std::string>(body, "model", "");
  request.model = services.models.get(name);
  request.options.adapters = request.model->adapters_of(name);
}

void ask(Services& services, const std::shared_ptr<Exchange>& exchange, AnswerRequest request, AnswerEvents events) {
  check(request);
  // Those who may ask for several took theirs before they made tokens of any.
  exchange->places().need(static_cast<std::int64_t>(request.prompts.size()) * request.count, request.prompt_field);
  if (request.shape) request.options.constraint = constraint_of(request);
  if (events.begin) events.begin();
  const auto asking = std::make_shared<Asking>(services, exchange, request, std::move(events));
  asking->start(std::move(request));
}

std::string random_id(std::string_view prefix) {
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  thread_local std::mt19937_64 random{std::random_device{}()};
  std::string id(prefix);
  for (int i = 0; i < 24; ++i) id += kLetters[random() % kLetters.size()];
  return id;
}

std::int64_t unix_time() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace puna
