// SPDX-License-Identifier: Apache-2.0
// POST /v1/rerank: documents in the order in which they answer a query, by how likely the model finds the query behind each (Sachan
// et al., 2022, "Improving Passage Retrieval with Zero-Shot Question Generation"):
//   relevance_score = exp( mean over the query's tokens t of log p(t | "Passage: " document "\nQuestion:", query before t) )
// In the shape that Jina, Cohere and other servers have in common.
#include <algorithm>
#include <array>
#include <cmath>

#include "server/answering.h"
#include "server/reading.h"
#include "server/request_json.h"
#include "server/routes/routes.h"
#include "server/routes/written_tokens.h"

namespace puna::routes {
namespace {

constexpr std::array<FieldRule, 6> kRerankFields = {{{"model", FieldKind::kText, 0, 512},
                                                     {"query", FieldKind::kText, 1, 1 << 20, true, false},
                                                     {"documents", FieldKind::kList, 1, 2048, true, false},
                                                     {"top_n", FieldKind::kInteger, 1, 1e9},
                                                     {"return_documents", FieldKind::kBoolean},
                                                     {"user", FieldKind::kText, 0, 4096}}};
constexpr std::array<FieldRule, 1> kDocumentFields = {{{"text", FieldKind::kText, 0, 0, true, false}}};

// "text", or {"text": "…"}.
std::vector<std::string> documents_of(const Json& list) {
  std::vector<std::string> texts;
  for (const Json& document : list) {
    const std::string place = fmt::format("documents[{}]", texts.size());
    if (!document.is_string() && !document.is_object())
      refuse_field(place, "\"{}\" is {}, expected a text or an object with one", place, document.type_name());
    if (document.is_object()) check_fields(document, kDocumentFields, place + ".");
    texts.push_back((document.is_string() ? document : document.at("text")).get<std::string>());
  }
  return texts;
}

ScoreRequest query_behind(const std::string& document, const std::vector<Token>& query, const Tokenizer& tokenizer) {
  ScoreRequest request{.tokens = written_tokens("Passage: " + document + "\nQuestion:", "documents", tokenizer)};
  request.from = static_cast<std::int64_t>(request.tokens.size());
  request.tokens.insert(request.tokens.end(), query.begin(), query.end());
  return request;
}

double relevance(std::span<const SampledToken> query) {
  double sum = 0;
  for (const SampledToken& token : query) sum += token.logprob;
  return std::exp(sum / static_cast<double>(query.size()));
}

// The best first; of equals the one that was given first.
std::vector<std::size_t> best_first(std::span<const double> scores) {
  std::vector<std::size_t> order(scores.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  return order;
}

}  // namespace

std::span<const FieldRule> rerank_fields() { return kRerankFields; }

void rerank(Services& services, Asked exchange) {
  const Json body = parse_request(exchange->request().body);
  check_fields(body, kRerankFields);
  const std::vector<std::string> documents = documents_of(body.at("documents"));
  const auto name = field_or<std::string>(body, "model", "");
  const auto model = services.models.get(name);
  const auto adapters = model->adapters_of(name);
  const Tokenizer& tokenizer = model->checkpoint().need_tokenizer();
  const std::vector<Token> query = tokenizer.encode(" " + body.at("query").get<std::string>());
  if (static_cast<std::int64_t>(query.size()) >= model->context())
    throw ApiError(
        400, "context_length_exceeded", "query",
        fmt::format("\"query\" has {} tokens, and the context of {} holds {}", query.size(), model->id(), model->context()));
  std::vector<ScoreRequest> requests;
  std::size_t tokens = 0;
  for (const std::string& document : documents) {
    requests.push_back(query_behind(document, query, tokenizer));
    requests.back().adapters = adapters;
    tokens += requests.back().tokens.size();
  }
  const std::size_t most = std::min<std::size_t>(documents.size(), field_or(body, "top_n", documents.size()));
  const bool with_texts = field_or(body, "return_documents", false);
  score(exchange, model, "documents", std::move(requests),
        [exchange, id = model->name_with(adapters.get()), documents, most, with_texts,
         tokens](const std::vector<std::vector<SampledToken>>& queries) {
          std::vector<double> scores;
          for (const std::vector<SampledToken>& tokens_of_query : queries) scores.push_back(relevance(tokens_of_query));
          Json results = Json::array();
          for (const std::size_t i : best_first(scores)) {
            if (results.size() == most) break;
            results.push_back({{"index", i}, {"relevance_score", scores[i]}});
            if (with_texts) results.back()["document"] = {{"text", documents[i]}};
          }
          exchange->send_json({{"id", random_id("rerank-")},
                               {"model", id},
                               {"results", std::move(results)},
                               {"usage", {{"prompt_tokens", tokens}, {"total_tokens", tokens}}}});
        });
}

}  // namespace puna::routes
