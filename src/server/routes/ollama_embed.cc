// SPDX-License-Identifier: Apache-2.0
// POST /api/embed, and /api/embeddings as it was before: the mean of a text's states, of length 1 in the newer one. No text loads
// the model.
#include <array>

#include "server/reading.h"
#include "server/routes/ollama_fields.h"
#include "server/routes/routes.h"
#include "server/routes/written_tokens.h"

namespace puna::routes {
namespace {

constexpr std::size_t kMostInputs = 2048;
constexpr std::array<FieldRule, 6> kEmbedFields = {{{"model", FieldKind::kText, 1, 512, true, false},
                                                    {"input", FieldKind::kTextOrList, 0, 16e6, true, false},
                                                    {"truncate", FieldKind::kBoolean},
                                                    {"dimensions", FieldKind::kInteger, 1, 1e6},
                                                    {"options", FieldKind::kObject},
                                                    {"keep_alive", FieldKind::kAny}}};
constexpr std::array<FieldRule, 4> kEmbeddingsFields = {{{"model", FieldKind::kText, 1, 512, true, false},
                                                         {"prompt", FieldKind::kText},
                                                         {"options", FieldKind::kObject},
                                                         {"keep_alive", FieldKind::kAny}}};

std::vector<Json> texts_of(const Json& input) {
  if (input.is_string()) return {input};
  if (input.size() > kMostInputs) refuse_field("input", "\"input\" has {} texts, expected at most {}", input.size(), kMostInputs);
  for (const Json& text : input) {
    if (!text.is_string()) refuse_field("input", "\"input\" holds {}, expected texts", text.type_name());
  }
  return {input.begin(), input.end()};
}

LoadedModel asked_model(Services& services, const Json& body, Right right) {
  const auto& name = body.at("model").get_ref<const std::string&>();
  known_model(services, name);  // before what else may be wrong
  const auto keep_alive = keep_alive_of(body, right);
  ollama_options(body, services);  // checked: none of them changes an embedding
  LoadedModel loaded = load_model(services, name, keep_alive);
  check_wanted_context(body, *loaded.model);
  return loaded;
}

}  // namespace

std::span<const FieldRule> ollama_embed_fields() { return kEmbedFields; }
std::span<const FieldRule> ollama_embeddings_fields() { return kEmbeddingsFields; }

void ollama_embed(Services& services, Asked exchange) {
  const Json body = parse_request(exchange->request().body);
  check_fields(body, kEmbedFields);
  const std::vector<Json> texts = texts_of(body.at("input"));
  const LoadedModel loaded = asked_model(services, body, exchange->right());
  const Checkpoint& checkpoint = loaded.model->checkpoint();
  if (field_or(body, "dimensions", checkpoint.config.width) != checkpoint.config.width)
    throw ApiError(400, "unsupported", "dimensions",
                   fmt::format("embeddings of {} have {} dimensions", loaded.model->id(), checkpoint.config.width));
  std::vector<EmbeddingRequest> requests;
  std::size_t tokens = 0;
  for (const Json& text : texts) {
    requests.push_back({.tokens = written_tokens(text, "input", checkpoint.need_tokenizer()), .adapters = loaded.adapters});
    tokens += requests.back().tokens.size();
  }
  const auto answer = [exchange, name = body.at("model"), seconds = loaded.seconds,
                       tokens](const std::vector<std::vector<float>>& states) {
    exchange->send_json({{"model", name},
                         {"embeddings", states},
                         {"total_duration", nanoseconds(exchange->seconds())},
                         {"load_duration", nanoseconds(seconds)},
                         {"prompt_eval_count", tokens}});
  };
  requests.empty() ? answer({}) : embed(exchange, loaded.model, "input", std::move(requests), answer);
}

void ollama_embeddings(Services& services, Asked exchange) {
  const Json body = parse_request(exchange->request().body);
  check_fields(body, kEmbeddingsFields);
  const auto prompt = field_or<std::string>(body, "prompt", "");
  const LoadedModel loaded = asked_model(services, body, exchange->right());
  if (prompt.empty()) return exchange->send_json({{"embedding", Json::array()}});
  std::vector<EmbeddingRequest> requests(1);
  requests.front().tokens = written_tokens(prompt, "prompt", loaded.model->checkpoint().need_tokenizer());
  requests.front().normalise = false;
  requests.front().adapters = loaded.adapters;
  embed(exchange, loaded.model, "prompt", std::move(requests), [exchange](const std::vector<std::vector<float>>& states) {
    exchange->send_json({{"embedding", states.front()}});
  });
}

}  // namespace puna::routes
