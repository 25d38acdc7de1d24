// SPDX-License-Identifier: Apache-2.0
// Tokens as requests write them: ids in a list, or a text.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "text/tokenizer.h"

namespace puna {

// The texts of "text", ["text", …], [1, 2] or [[1, 2], …], each a text or a list. Throws ApiError naming `param` for none, more
// than `most`, or what is neither.
std::vector<Json> written_texts(const Json& written, const std::string& param, std::size_t most);
// Throws ApiError naming `param` for what is no id of the vocabulary.
std::vector<Token> token_ids(const Json& list, const std::string& param, const Tokenizer& tokenizer);
// A list as it is; a text with the tokenizer's beginning, where it has one. Special tokens in it are characters unless
// `parse_special`.
std::vector<Token> written_tokens(const Json& text_or_ids, const std::string& param, const Tokenizer& tokenizer,
                                  bool parse_special = false);

}  // namespace puna
