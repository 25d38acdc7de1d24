// SPDX-License-Identifier: Apache-2.0
#include "server/routes/written_tokens.h"

#include "server/api_error.h"

namespace puna {

std::vector<Json> written_texts(const Json& written, const std::string& param, std::size_t most) {
  if (written.is_string()) return {written};
  if (written.empty()) refuse_field(param, "\"{}\" is empty: give a text or token ids", param);
  if (written.front().is_number()) return {written};
  if (written.size() > most) refuse_field(param, "\"{}\" has {} texts, expected at most {}", param, written.size(), most);
  for (const Json& text : written) {
    if (!text.is_string() && !text.is_array())
      refuse_field(param, "\"{}\" holds {}, expected texts or lists of token ids", param, text.type_name());
  }
  return {written.begin(), written.end()};
}

std::vector<Token> token_ids(const Json& list, const std::string& param, const Tokenizer& tokenizer) {
  std::vector<Token> tokens;
  for (const Json& id : list) {
    if (!id.is_number_integer() || id.get<std::int64_t>() < 0 || id.get<std::int64_t>() >= tokenizer.size())
      refuse_field(param, "\"{}\" holds {}, expected token ids below {}", param, dump_json(id).substr(0, 50), tokenizer.size());
    tokens.push_back(Token{id.get<std::int32_t>()});
  }
  return tokens;
}

std::vector<Token> written_tokens(const Json& text_or_ids, const std::string& param, const Tokenizer& tokenizer,
                                  bool parse_special) {
  if (!text_or_ids.is_string()) return token_ids(text_or_ids, param, tokenizer);
  const auto& text = text_or_ids.get_ref<const std::string&>();
  std::vector<Token> tokens = parse_special ? tokenizer.encode_with_specials(text) : tokenizer.encode(text);
  if (tokenizer.adds_bos() && tokenizer.bos()) tokens.insert(tokens.begin(), *tokenizer.bos());
  return tokens;
}

}  // namespace puna
