// SPDX-License-Identifier: Apache-2.0
// POST /v1/completions: texts that go on from a prompt, which is written as it is.
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

// One prompt: "text", ["text"], [1, 2] or [[1, 2]].
const Json& only_prompt(const Json& body) {
  const Json& prompt = body.at("prompt");
  if (prompt.is_string()) return prompt;
  if (prompt.empty()) refuse_field("prompt", "\"prompt\" is empty: give a text or token ids");
  if (prompt.front().is_number()) return prompt;
  if (prompt.size() > 1) throw ApiError(400, "unsupported", "prompt", "one prompt is answered at a time: send a request for each");
  if (!prompt.front().is_string() && !prompt.front().is_array())
    refuse_field("prompt", "\"prompt\" holds {}, expected a text or token ids", prompt.front().type_name());
  return prompt.front();
}

void refuse_unsupported(const Json& body) {
  if (given_field(body, "suffix") != nullptr && !body.at("suffix").get_ref<const std::string&>().empty())
    throw ApiError(400, "unsupported", "suffix", "\"suffix\" cannot be done here: no Llama model fills in the middle");
  if (field_or(body, "best_of", 1) != field_or(body, "n", 1) && given_field(body, "best_of") != nullptr)
    throw ApiError(400, "unsupported", "best_of", "\"best_of\" other than \"n\" cannot be done here");
}

struct Naming {
  std::string id = random_id("cmpl-");
  std::int64_t created = unix_time();
  std::string model;
  std::string prompt;  // shown before the answer where "echo" asks for it

  Json part(Json choices) const {
    return {{"id", id}, {"object", "text_completion"}, {"created", created}, {"model", model}, {"choices", std::move(choices)}};
  }
  Json choice(int index, std::string_view text, Json finish_reason, Json logprobs) const {
    return {{"text", text}, {"index", index}, {"logprobs", std::move(logprobs)}, {"finish_reason", std::move(finish_reason)}};
  }
};

AnswerEvents whole_answer(const std::shared_ptr<Exchange>& exchange, const Naming& naming, std::shared_ptr<ServedModel> model,
                          bool logprobs) {
  const auto known = std::make_shared<std::vector<SampledToken>>();  // the prompt's
  return {.begin = {},
          .prompt = [known](std::span<const SampledToken> tokens) { known->assign(tokens.begin(), tokens.end()); },
          .text = {},
          .finished = {},
          .done =
              [exchange, naming, known, model = std::move(model), logprobs](std::span<const Answer> answers) {
                Json choices = Json::array();
                for (const Answer& answer : answers) {
                  std::vector<SampledToken> tokens = *known;
                  tokens.insert(tokens.end(), answer.generation.logprobs.begin(), answer.generation.logprobs.end());
                  std::size_t offset = known->empty() ? naming.prompt.size() : 0;
                  Json probabilities = logprobs ? completion_logprobs(tokens, *model, offset) : Json();
                  choices.push_back(naming.choice(static_cast<int>(choices.size()), naming.prompt + answer.message.content,
                                                  answer.reason, std::move(probabilities)));
                }
                Json response = naming.part(std::move(choices));
                response["usage"] = usage_json(answers);
                response["timings"] = timings_json(answers.front().generation);
                exchange->send_json(response);
              }};
}

AnswerEvents streamed_answer(const std::shared_ptr<Exchange>& exchange, const Naming& naming, std::shared_ptr<ServedModel> model,
                             bool logprobs, bool usage, int count) {
  const auto tell = [exchange, naming](int index, std::string_view text, Json reason, Json probabilities) {
    exchange->event(naming.part(Json::array({naming.choice(index, text, std::move(reason), std::move(probabilities))})));
  };
  const auto offsets = std::make_shared<std::vector<std::size_t>>(count, naming.prompt.size());  // of what comes next
  return {.begin =
              [exchange, naming, tell, count, logprobs] {
                exchange->begin_events();
                const bool at_once = !naming.prompt.empty() && !logprobs;
                for (int i = 0; i < count && at_once; ++i) tell(i, naming.prompt, nullptr, nullptr);
              },
          .prompt =
              [naming, tell, count, model](std::span<const SampledToken> tokens) {
                for (int i = 0; i < count; ++i) tell(i, naming.prompt, nullptr, completion_logprobs(tokens, *model, 0));
              },
          .text =
              [tell, model, logprobs, offsets](int index, std::string_view text, std::span<const SampledToken> tokens) {
                std::size_t& offset = (*offsets)[static_cast<std::size_t>(index)];
                tell(index, text, nullptr, logprobs ? completion_logprobs(tokens, *model, offset) : Json());
                offset += text.size();
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

}  // namespace

std::span<const FieldRule> completion_fields() { return kCompletionFields; }

void completions(Services& services, Asked exchange) {
  const Json body = parse_request(exchange->request().body);
  check_fields(body, kCompletionFields);
  refuse_unsupported(body);
  AnswerRequest request;
  request.prompt_field = "prompt";
  request.options = writing_options(body, services);
  request.options.max_tokens = field_or(body, "max_tokens", kDefaultTokens);
  const bool logprobs = given_field(body, "logprobs") != nullptr;
  if (logprobs) request.options.top_logprobs = body.at("logprobs").get<int>();
  request.count = field_or(body, "n", 1);
  request.shape = written_shape(body);
  const bool usage = wants_usage(body);
  const Json& prompt = only_prompt(body);
  choose_model(services, body, request);
  const Tokenizer& tokenizer = request.model->checkpoint().need_tokenizer();
  request.prompt = written_tokens(prompt, "prompt", tokenizer, field_or(body, "parse_special", false));
  if (const auto shape = answer_shape(body, request.format, {}, "response_format")) request.shape = shape;

  Naming naming{.model = request.model->name_with(request.options.adapters.get()), .prompt = ""};
  if (field_or(body, "echo", false))
    naming.prompt = prompt.is_string() ? prompt.get<std::string>() : tokenizer.decode(request.prompt);
  if (logprobs && field_or(body, "echo", false)) request.prompt_logprobs = request.options.top_logprobs;
  const std::shared_ptr<ServedModel> model = request.model;
  const int count = request.count;
  const bool stream = field_or(body, "stream", false);
  ask(services, exchange, std::move(request),
      stream ? streamed_answer(exchange, naming, model, logprobs, usage, count) : whole_answer(exchange, naming, model, logprobs));
}

}  // namespace puna::routes
