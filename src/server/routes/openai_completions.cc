// SPDX-License-Identifier: Apache-2.0
// POST /v1/completions: texts that go on from prompts, which are written as they are.
#include <algorithm>
#include <array>

#include "base/error.h"
#include "server/routes/open_ai_fields.h"
#include "server/routes/open_ai_logprobs.h"
#include "server/routes/routes.h"
#include "server/routes/written_tokens.h"

namespace puna::routes {
namespace {

constexpr std::int64_t kDefaultTokens = 16;  // OpenAI's
constexpr std::size_t kMostPrompts = 64;

constexpr auto kCompletionFields = [] {
  constexpr std::array<FieldRule, 8> kOwn = {{{"prompt", FieldKind::kTextOrList, 0, 0, true},
                                              {"max_tokens", FieldKind::kInteger, 0, 1e9},
                                              {"logprobs", FieldKind::kInteger, 0, 20},
                                              {"echo", FieldKind::kBoolean},
                                              {"suffix", FieldKind::kText},
                                              {"best_of", FieldKind::kInteger, 1, 16},
                                              {"response_format", FieldKind::kObject},
                                              {"parse_special", FieldKind::kBoolean}}};
  std::array<FieldRule, kOwn.size() + kWritingFields.size()> all{};
  std::copy(kWritingFields.begin(), kWritingFields.end(), std::copy(kOwn.begin(), kOwn.end(), all.begin()));
  return all;
}();

void refuse_unsupported_completion(const Json& body) {
  if (given_field(body, "suffix") != nullptr && !body.at("suffix").get_ref<const std::string&>().empty())
    throw ApiError(400, "unsupported", "suffix", "\"suffix\" cannot be done here: no Llama model fills in the middle");
  if (field_or(body, "best_of", 1) != field_or(body, "n", 1) && given_field(body, "best_of") != nullptr)
    throw ApiError(400, "unsupported", "best_of", "\"best_of\" other than \"n\" cannot be done here");
}

// What all parts of one response have in common.
struct CompletionNaming {
  std::string id = random_id("cmpl-");
  std::int64_t created = unix_time();
  std::string model;
  std::vector<std::string> prompts;  // as they are shown before their answers: empty where "echo" does not ask for it
  int count = 1;                     // of the answers to each

  Json part(Json choices) const {
    return {{"id", id}, {"object", "text_completion"}, {"created", created}, {"model", model}, {"choices", std::move(choices)}};
  }
  Json choice(int index, std::string_view text, Json finish_reason, Json logprobs) const {
    return {{"text", text}, {"index", index}, {"logprobs", std::move(logprobs)}, {"finish_reason", std::move(finish_reason)}};
  }
};

AnswerEvents whole_completion(const std::shared_ptr<Exchange>& exchange, const CompletionNaming& naming,
                              std::shared_ptr<ServedModel> model, bool logprobs) {
  const auto known = std::make_shared<std::vector<std::vector<SampledToken>>>(naming.prompts.size());  // of each prompt
  return {.begin = {},
          .prompt = [known](std::size_t prompt,
                            std::span<const SampledToken> tokens) { (*known)[prompt].assign(tokens.begin(), tokens.end()); },
          .text = {},
          .finished = {},
          .done =
              [exchange, naming, known, model = std::move(model), logprobs](std::span<const Answer> answers) {
                Json choices = Json::array();
                for (const Answer& answer : answers) {
                  const std::string& prompt = naming.prompts[answer.prompt];
                  std::vector<SampledToken> tokens = (*known)[answer.prompt];
                  std::size_t offset = tokens.empty() ? characters(prompt) : 0;
                  tokens.insert(tokens.end(), answer.generation.logprobs.begin(), answer.generation.logprobs.end());
                  Json probabilities = logprobs ? completion_logprobs(tokens, *model, offset) : Json();
                  choices.push_back(naming.choice(static_cast<int>(choices.size()), prompt + answer.message.content, answer.reason,
                                                  std::move(probabilities)));
                }
                Json response = naming.part(std::move(choices));
                response["usage"] = usage_json(answers);
                response["timings"] = timings_json(answers.front().generation);
                exchange->send_json(response);
              }};
}

AnswerEvents streamed_completion(const std::shared_ptr<Exchange>& exchange, const CompletionNaming& naming,
                                 std::shared_ptr<ServedModel> model, bool logprobs, bool usage) {
  const auto tell = [exchange, naming](int index, std::string_view text, Json reason, Json probabilities) {
    exchange->event(naming.part(Json::array({naming.choice(index, text, std::move(reason), std::move(probabilities))})));
  };
  const auto echo = [naming, tell](std::size_t prompt, const Json& probabilities) {
    for (int j = 0; j < naming.count; ++j)
      tell(static_cast<int>(prompt) * naming.count + j, naming.prompts[prompt], nullptr, probabilities);
  };
  const auto count = static_cast<std::size_t>(naming.count);
  const auto offsets = std::make_shared<std::vector<std::size_t>>();  // of the next token, in each answer
  for (const std::string& prompt : naming.prompts) offsets->insert(offsets->end(), count, characters(prompt));
  return {.begin =
              [exchange, naming, echo, logprobs] {
                exchange->begin_events();
                for (std::size_t i = 0; i < naming.prompts.size() && !logprobs; ++i) {
                  if (!naming.prompts[i].empty()) echo(i, nullptr);
                }
              },
          .prompt =
              [echo, model, offsets, count](std::size_t prompt, std::span<const SampledToken> tokens) {
                std::size_t offset = 0;
                echo(prompt, completion_logprobs(tokens, *model, offset));
                std::fill_n(offsets->begin() + static_cast<std::ptrdiff_t>(prompt * count), count, offset);
              },
          .text =
              [tell, model, logprobs, offsets](int index, std::string_view text, std::span<const SampledToken> tokens) {
                std::size_t& offset = (*offsets)[static_cast<std::size_t>(index)];
                tell(index, text, nullptr, logprobs ? completion_logprobs(tokens, *model, offset) : Json());
              },
          .finished = [tell](int index, const Answer& answer) { tell(index, "", answer.reason, nullptr); },
          .done =
              [exchange, naming, usage](std::span<const Answer> answers) {
                if (usage) {
                  Json last = naming.part(Json::array());
                  last["usage"] = usage_json(answers);
                  exchange->event(last);
                }
                exchange->end("data: [DONE]\n\n");
              }};
}

// As "echo" shows it.
std::string shown_prompt(const Json& text_or_ids, std::span<const Token> tokens, const Tokenizer& tokenizer) {
  return text_or_ids.is_string() ? text_or_ids.get<std::string>() : tokenizer.decode(tokens);
}

}  // namespace

std::span<const FieldRule> completion_fields() { return kCompletionFields; }

void completions(Services& services, Asked exchange) {
  const Json body = parse_request(exchange->request().body);
  check_fields(body, kCompletionFields);
  refuse_unsupported_completion(body);
  AnswerRequest request;
  request.prompt_field = "prompt";
  request.options = writing_options(body, services);
  request.options.max_tokens = field_or(body, "max_tokens", kDefaultTokens);
  const bool logprobs = given_field(body, "logprobs") != nullptr;
  if (logprobs) request.options.top_logprobs = body.at("logprobs").get<int>();
  request.count = field_or(body, "n", 1);
  request.shape = written_shape(body);
  const bool usage = wants_usage(body);
  const std::vector<Json> prompts = written_texts(body.at("prompt"), "prompt", kMostPrompts);
  exchange->places().need(static_cast<std::int64_t>(prompts.size()) * request.count, request.count > 1 ? "n" : "prompt");
  choose_model(services, body, request);
  if (const auto shape = answer_shape(body, request.format, {}, "response_format")) request.shape = shape;

  const bool echo = field_or(body, "echo", false), special = field_or(body, "parse_special", false);
  CompletionNaming naming{.model = request.model->name_with(request.options.adapters.get()), .prompts = {}, .count = request.count};
  const Tokenizer& tokenizer = request.model->checkpoint().need_tokenizer();
  for (const Json& prompt : prompts) {
    request.prompts.push_back(written_tokens(prompt, "prompt", tokenizer, special));
    naming.prompts.push_back(echo ? shown_prompt(prompt, request.prompts.back(), tokenizer) : "");
  }
  if (logprobs && echo) request.prompt_logprobs = request.options.top_logprobs;
  const std::shared_ptr<ServedModel> model = request.model;
  const bool stream = field_or(body, "stream", false);
  ask(services, exchange, std::move(request),
      stream ? streamed_completion(exchange, naming, model, logprobs, usage) : whole_completion(exchange, naming, model, logprobs));
}

}  // namespace puna::routes
