// SPDX-License-Identifier: Apache-2.0
// POST /tokenize, /detokenize and /apply-template: what a model sees of a text, and of a conversation.
#include <array>

#include "base/error.h"
#include "server/chat_prompt.h"
#include "server/request_json.h"
#include "server/routes/routes.h"
#include "server/routes/written_tokens.h"

namespace puna::routes {
namespace {

constexpr std::array<FieldRule, 5> kTokenizeFields = {{{"model", FieldKind::kText, 0, 512},
                                                       {"content", FieldKind::kText, 0, 0, true, false},
                                                       {"add_special", FieldKind::kBoolean},
                                                       {"parse_special", FieldKind::kBoolean},
                                                       {"with_pieces", FieldKind::kBoolean}}};
constexpr std::array<FieldRule, 3> kDetokenizeFields = {
    {{"model", FieldKind::kText, 0, 512}, {"tokens", FieldKind::kList, 0, 0, true, false}, {"specials", FieldKind::kBoolean}}};
constexpr std::array<FieldRule, 4> kTemplateFields = {{{"model", FieldKind::kText, 0, 512},
                                                       {"messages", FieldKind::kList, 0, 0, true, false},
                                                       {"tools", FieldKind::kList},
                                                       {"tool_choice", FieldKind::kTextOrObject}}};

std::shared_ptr<ServedModel> model_of(Services& services, const Json& body) {
  return services.models.get(field_or<std::string>(body, "model", ""));
}

}  // namespace

std::span<const FieldRule> tokenize_fields() { return kTokenizeFields; }

void tokenize(Services& services, Asked exchange) {
  const Json body = parse_request(exchange->request().body);
  check_fields(body, kTokenizeFields);
  const auto model = model_of(services, body);
  const Tokenizer& tokenizer = model->checkpoint().need_tokenizer();
  const auto& text = body.at("content").get_ref<const std::string&>();
  std::vector<Token> tokens =
      field_or(body, "parse_special", false) ? tokenizer.encode_with_specials(text) : tokenizer.encode(text);
  if (field_or(body, "add_special", false) && tokenizer.bos()) tokens.insert(tokens.begin(), *tokenizer.bos());
  Json list = Json::array();
  const bool pieces = field_or(body, "with_pieces", false);
  for (const Token token : tokens) {
    list.push_back(pieces ? Json{{"id", id(token)}, {"piece", tokenizer.piece(token, true)}} : Json(id(token)));
  }
  exchange->send_json({{"tokens", std::move(list)}});
}

std::span<const FieldRule> detokenize_fields() { return kDetokenizeFields; }

void detokenize(Services& services, Asked exchange) {
  const Json body = parse_request(exchange->request().body);
  check_fields(body, kDetokenizeFields);
  const auto model = model_of(services, body);
  const Tokenizer& tokenizer = model->checkpoint().need_tokenizer();
  const std::vector<Token> tokens = token_ids(body.at("tokens"), "tokens", tokenizer);
  exchange->send_json({{"content", tokenizer.decode(tokens, field_or(body, "specials", true))}});
}

std::span<const FieldRule> template_fields() { return kTemplateFields; }

void apply_template(Services& services, Asked exchange) {
  const Json body = parse_request(exchange->request().body);
  check_fields(body, kTemplateFields);
  const std::vector<Message> messages = read_messages(body);
  AnswerRequest request;
  request.model = model_of(services, body);
  prepare_chat(services, body, messages, request);
  exchange->send_json({{"prompt", request.model->checkpoint().need_tokenizer().decode(request.prompts.front(), true)},
                       {"tokens", request.prompts.front().size()}});
}

}  // namespace puna::routes
