// SPDX-License-Identifier: Apache-2.0
// Tokenizers from the files of a checkpoint folder, and what the JSON files beside them say of beginnings and ends.
#include <filesystem>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "text/tokenizer.h"

namespace puna {
namespace {

std::string_view text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

std::optional<Json> read_json(const std::filesystem::path& path) {
  if (!std::filesystem::is_regular_file(path)) return std::nullopt;
  const MappedFile file(path);
  return parse_json(text_of(file), path.filename().string());
}

// tiktoken's first line is base64, a space and a rank; a SentencePiece model is a protocol buffer.
bool looks_like_tiktoken(std::string_view bytes) {
  const std::string_view line = bytes.substr(0, bytes.substr(0, 4096).find('\n'));
  const std::size_t space = line.find(' ');
  if (space == std::string_view::npos || space == 0) return false;
  constexpr std::string_view kBase64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";
  return line.substr(0, space).find_first_not_of(kBase64) == std::string_view::npos &&
         line.find_first_not_of("0123456789\r", space + 1) == std::string_view::npos;
}

Token token_of(const Json& value, const Tokenizer& tokenizer, const std::string& key, const std::string& where) {
  if (!value.is_number_integer()) fail(ErrorKind::kBadInput, where, "{} holds {}, expected a token id", key, value.type_name());
  const auto number = value.get<std::int64_t>();
  if (number < 0 || number >= tokenizer.size()) {
    fail(ErrorKind::kBadInput, where, "{} is {}, outside the vocabulary of {} tokens: the file belongs to another model", key,
         number, tokenizer.size());
  }
  return static_cast<Token>(number);
}

// "bos_token_id": 1 and "eos_token_id": 2 or [2, 3], of config.json and generation_config.json.
void apply_ids(const std::filesystem::path& path, Tokenizer& tokenizer) {
  const auto config = read_json(path);
  if (!config) return;
  const std::string where = path.filename().string();
  if (!config->is_object()) fail(ErrorKind::kBadInput, where, "holds {}, expected an object", config->type_name());
  if (config->contains("bos_token_id") && !config->at("bos_token_id").is_null()) {
    tokenizer.set_bos(token_of(config->at("bos_token_id"), tokenizer, "bos_token_id", where), tokenizer.adds_bos());
  }
  if (!config->contains("eos_token_id") || config->at("eos_token_id").is_null()) return;
  const Json& end = config->at("eos_token_id");
  if (!end.is_array()) return tokenizer.add_end_token(token_of(end, tokenizer, "eos_token_id", where));
  for (const Json& one : end) tokenizer.add_end_token(token_of(one, tokenizer, "eos_token_id", where));
}

// "<s>" or {"content": "<s>", …}; empty where it is absent or null.
std::string token_name(const Json& config, const char* key) {
  if (!config.contains(key)) return {};
  const Json& value = config.at(key);
  if (value.is_string()) return value.get<std::string>();
  return value.is_object() && value.contains("content") && value["content"].is_string() ? value["content"].get<std::string>()
                                                                                        : std::string();
}

void apply_tokenizer_config(const std::filesystem::path& path, Tokenizer& tokenizer) {
  const auto config = read_json(path);
  if (!config) return;
  const std::string where = path.filename().string();
  if (!config->is_object()) fail(ErrorKind::kBadInput, where, "holds {}, expected an object", config->type_name());
  const bool adds = json_or<bool>(*config, "add_bos_token", tokenizer.adds_bos(), where);
  auto bos = tokenizer.bos();
  if (const std::string name = token_name(*config, "bos_token"); !name.empty()) {
    if (const auto token = tokenizer.special(name)) bos = token;
  }
  tokenizer.set_bos(bos, adds && bos);
  if (const std::string name = token_name(*config, "eos_token"); !name.empty()) {
    if (const auto token = tokenizer.special(name)) tokenizer.add_end_token(*token);
  }
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer_file(const std::filesystem::path& path) {
  const MappedFile file(path);
  const std::string_view bytes = text_of(file);
  const std::string where = path.filename().string();
  if (bytes.empty()) fail(ErrorKind::kBadInput, where, "the file is empty, expected a tokenizer");
  const std::size_t start = bytes.find_first_not_of(" \t\r\n");
  if (start != std::string_view::npos && bytes[start] == '{') return tokenizer_from_json(bytes, where);
  if (looks_like_tiktoken(bytes)) return tokenizer_from_tiktoken(bytes, where);
  return tokenizer_from_sentencepiece(bytes, where);
}

std::unique_ptr<Tokenizer> load_tokenizer_folder(const std::filesystem::path& folder) {
  const auto json = folder / "tokenizer.json", model = folder / "tokenizer.model";
  const bool has_model = std::filesystem::is_regular_file(model);
  std::unique_ptr<Tokenizer> tokenizer;
  if (std::filesystem::is_regular_file(json)) {
    try {
      tokenizer = load_tokenizer_file(json);
    } catch (const Error& error) {
      // Llama 2's tokenizer.json is SentencePiece rewritten; the original lies beside it.
      if (error.kind() != ErrorKind::kUnsupported || !has_model) throw;
    }
  }
  if (!tokenizer && has_model) tokenizer = load_tokenizer_file(model);
  if (!tokenizer) return nullptr;
  apply_tokenizer_config(folder / "tokenizer_config.json", *tokenizer);
  apply_ids(folder / "config.json", *tokenizer);
  apply_ids(folder / "generation_config.json", *tokenizer);
  return tokenizer;
}

}  // namespace puna
