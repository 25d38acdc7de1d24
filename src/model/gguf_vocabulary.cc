// SPDX-License-Identifier: Apache-2.0
// The tokenizer.ggml.* keys of a GGUF file, handed to text/ as plain lists.
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/error.h"
#include "model/checkpoint_reading.h"

namespace puna {
namespace {

template <typename T>
const std::vector<T>* find_list(const GgufFile& file, const char* key) {
  const GgufArray* array = file.find_array(key);
  if (array == nullptr) return nullptr;
  const auto* list = std::get_if<std::vector<T>>(array);
  if (list == nullptr) fail(ErrorKind::kBadInput, file.where(), "the key {} is an array of another type than expected", key);
  return list;
}

std::vector<std::string> strings(const GgufFile& file, const char* key) {
  const auto* list = find_list<std::string_view>(file, key);
  return list == nullptr ? std::vector<std::string>{} : std::vector<std::string>(list->begin(), list->end());
}

int narrow(std::int64_t value, const char* key, const GgufFile& file) {
  if (value < std::numeric_limits<int>::min() || value > std::numeric_limits<int>::max()) {
    fail(ErrorKind::kBadInput, file.where(), "the key {} holds {}, which is no token id or type", key, value);
  }
  return static_cast<int>(value);
}

std::optional<int> token_id(const GgufFile& file, const char* key) {
  const auto value = file.find_integer(key);
  if (!value) return std::nullopt;
  return narrow(*value, key, file);
}

}  // namespace

std::unique_ptr<Tokenizer> gguf_tokenizer(const GgufFile& file) {
  const auto model = file.find_string("tokenizer.ggml.model");
  if (!model || *model == "none" || *model == "no_vocab") return nullptr;
  GgufVocabulary vocabulary;
  vocabulary.model = *model;
  vocabulary.pre = file.find_string("tokenizer.ggml.pre").value_or("");
  vocabulary.tokens = strings(file, "tokenizer.ggml.tokens");
  vocabulary.merges = strings(file, "tokenizer.ggml.merges");
  if (const auto* scores = find_list<double>(file, "tokenizer.ggml.scores")) {
    vocabulary.scores.assign(scores->begin(), scores->end());
  }
  if (const auto* types = find_list<std::int64_t>(file, "tokenizer.ggml.token_type")) {
    vocabulary.types.reserve(types->size());
    for (const std::int64_t type : *types) vocabulary.types.push_back(narrow(type, "tokenizer.ggml.token_type", file));
  }
  vocabulary.bos = token_id(file, "tokenizer.ggml.bos_token_id");
  vocabulary.eos = token_id(file, "tokenizer.ggml.eos_token_id");
  vocabulary.eot = token_id(file, "tokenizer.ggml.eot_token_id");
  vocabulary.eom = token_id(file, "tokenizer.ggml.eom_token_id");
  vocabulary.add_bos = file.find_bool("tokenizer.ggml.add_bos_token");
  vocabulary.add_space_prefix = file.find_bool("tokenizer.ggml.add_space_prefix");
  vocabulary.remove_extra_whitespaces = file.find_bool("tokenizer.ggml.remove_extra_whitespaces");
  return tokenizer_from_gguf(std::move(vocabulary), file.where());
}

}  // namespace puna
