// SPDX-License-Identifier: Apache-2.0
// POST /v1/embeddings: the states of texts, of length 1, so that their product is their cosine.
#include <openssl/evp.h>

#include <array>
#include <bit>
#include <cstring>

#include "server/reading.h"
#include "server/request_json.h"
#include "server/routes/routes.h"
#include "server/routes/written_tokens.h"

namespace puna::routes {
namespace {

static_assert(std::endian::native == std::endian::little, "base64 embeddings are little-endian F32");

constexpr std::array<FieldRule, 6> kEmbeddingFields = {{{"model", FieldKind::kText, 0, 512},
                                                        {"input", FieldKind::kTextOrList, 1, 16e6, true, false},
                                                        {"encoding_format", FieldKind::kText, 1, 16},
                                                        {"dimensions", FieldKind::kInteger, 1, 1e6},
                                                        {"pooling", FieldKind::kText, 1, 16},
                                                        {"user", FieldKind::kText, 0, 4096}}};
constexpr std::size_t kMostTexts = 2048;  // OpenAI's

Pooling pooling_of(const Json& body) {
  const auto name = field_or<std::string>(body, "pooling", "mean");
  if (name != "mean" && name != "last") refuse_field("pooling", "\"pooling\" is \"{}\", expected mean or last", name);
  return name == "mean" ? Pooling::kMean : Pooling::kLast;
}

std::string base64(std::span<const float> numbers) {
  std::vector<unsigned char> bytes(numbers.size_bytes()), text(4 * (bytes.size() / 3 + 1) + 1);
  std::memcpy(bytes.data(), numbers.data(), bytes.size());
  const int length = EVP_EncodeBlock(text.data(), bytes.data(), static_cast<int>(bytes.size()));
  return {text.begin(), text.begin() + length};
}

}  // namespace

std::span<const FieldRule> embedding_fields() { return kEmbeddingFields; }

void embeddings(Services& services, Asked exchange) {
  const Json body = parse_request(exchange->request().body);
  check_fields(body, kEmbeddingFields);
  const std::vector<Json> texts = written_texts(body.at("input"), "input", kMostTexts);
  const Pooling pooling = pooling_of(body);
  const auto format = field_or<std::string>(body, "encoding_format", "float");
  if (format != "float" && format != "base64")
    refuse_field("encoding_format", "\"encoding_format\" is \"{}\", expected float or base64", format);
  const auto name = field_or<std::string>(body, "model", "");
  const auto model = services.models.get(name);
  const auto adapters = model->adapters_of(name);
  const std::int64_t width = model->checkpoint().config.width;
  if (field_or(body, "dimensions", width) != width)
    throw ApiError(400, "unsupported", "dimensions", fmt::format("embeddings of {} have {} dimensions", model->id(), width));

  std::vector<EmbeddingRequest> requests;
  std::size_t tokens = 0;
  for (const Json& text : texts) {
    requests.push_back(
        {.tokens = written_tokens(text, "input", model->checkpoint().need_tokenizer()), .pooling = pooling, .adapters = adapters});
    tokens += requests.back().tokens.size();
  }
  embed(exchange, model, "input", std::move(requests),
        [exchange, id = model->name_with(adapters.get()), tokens,
         as_text = format == "base64"](const std::vector<std::vector<float>>& states) {
          Json data = Json::array();
          for (const std::vector<float>& state : states)
            data.push_back(
                {{"object", "embedding"}, {"index", data.size()}, {"embedding", as_text ? Json(base64(state)) : Json(state)}});
          exchange->send_json({{"object", "list"},
                               {"data", std::move(data)},
                               {"model", id},
                               {"usage", {{"prompt_tokens", tokens}, {"total_tokens", tokens}}}});
        });
}

}  // namespace puna::routes
