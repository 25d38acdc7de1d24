// SPDX-License-Identifier: Apache-2.0
#include "quant/folder_tokenizer.h"

#include <array>
#include <optional>
#include <system_error>

#include "base/error.h"
#include "base/json.h"
#include "tensor/atomic_file.h"
#include "text/tokenizer_export.h"

namespace puna {
namespace {

namespace fs = std::filesystem;

constexpr const char* kMetaName = "tokenizer.model";

void write_file(const fs::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

bool copy_if_there(const fs::path& from, const fs::path& to) {
  std::error_code error;
  if (!fs::is_regular_file(from, error)) return false;
  fs::copy_file(from, to, fs::copy_options::overwrite_existing, error);
  if (error) fail(ErrorKind::kBadInput, to.string(), "cannot be copied from {}: {}", from.string(), error.message());
  return true;
}

std::string name_of(const GgufVocabulary& vocabulary, int id) { return vocabulary.tokens[static_cast<std::size_t>(id)]; }

std::string tokenizer_config_text(const Checkpoint& in, const GgufVocabulary& vocabulary, bool sentencepiece) {
  Json config = {{"add_bos_token", in.tokenizer->adds_bos()},
                 {"clean_up_tokenization_spaces", !sentencepiece},
                 {"model_max_length", in.config.context},
                 {"tokenizer_class", sentencepiece ? "LlamaTokenizer" : "PreTrainedTokenizerFast"}};
  if (vocabulary.bos) config["bos_token"] = name_of(vocabulary, *vocabulary.bos);
  const bool chat = !in.chat_template.empty() && vocabulary.eot;
  if (const auto eos = chat ? vocabulary.eot : vocabulary.eos) config["eos_token"] = name_of(vocabulary, *eos);
  if (!in.chat_template.empty()) config["chat_template"] = in.chat_template;
  if (!sentencepiece) config["model_input_names"] = {"input_ids", "attention_mask"};
  return config.dump(2) + "\n";
}

std::string generation_config_text(const Tokenizer& tokenizer) {
  Json config = Json::object();
  if (tokenizer.bos()) config["bos_token_id"] = id(*tokenizer.bos());
  config["eos_token_id"] = Json::array();
  for (const Token token : tokenizer.end_tokens()) config["eos_token_id"].push_back(id(token));
  if (tokenizer.end_tokens().empty()) config.erase("eos_token_id");
  return config.dump(2) + "\n";
}

void note_missing(const Checkpoint& in, std::vector<std::string>& notes) {
  notes.push_back(in.where + " has no tokenizer, so none was written");
}

void copy_hugging_face(const fs::path& from, const fs::path& folder) {
  static constexpr std::array kNames = {"tokenizer.json",        "tokenizer.model",         "tokenizer_config.json",
                                        "added_tokens.json",     "special_tokens_map.json", "chat_template.jinja",
                                        "generation_config.json"};
  for (const char* name : kNames) copy_if_there(from / name, folder / name);
}

}  // namespace

void write_hugging_face_tokenizer(const fs::path& folder, const Checkpoint& in, std::vector<std::string>& notes) {
  if (in.kind == CheckpointKind::kHuggingFace) return copy_hugging_face(in.files.front().parent_path(), folder);
  if (in.tokenizer == nullptr) return note_missing(in, notes);
  const GgufVocabulary vocabulary = export_gguf_vocabulary(*in.tokenizer, in.where);
  const auto pieces = sentencepiece_model_text(*in.tokenizer);
  const bool original = pieces && in.kind == CheckpointKind::kMeta;
  if (original) copy_if_there(in.files.front().parent_path() / kMetaName, folder / kMetaName);
  if (pieces && !original) write_file(folder / kMetaName, *pieces);
  if (!pieces) write_file(folder / "tokenizer.json", tokenizer_json_text(vocabulary));
  write_file(folder / "tokenizer_config.json", tokenizer_config_text(in, vocabulary, pieces.has_value()));
  write_file(folder / "generation_config.json", generation_config_text(*in.tokenizer));
}

void write_meta_tokenizer(const fs::path& folder, const Checkpoint& in, std::vector<std::string>& notes) {
  if (!in.chat_template.empty()) notes.push_back("the chat template was left out: Meta's folders have none");
  if (in.kind == CheckpointKind::kMeta || in.kind == CheckpointKind::kHuggingFace) {
    const fs::path source = in.files.front().parent_path();
    if (copy_if_there(source / kMetaName, folder / kMetaName)) return;
    if (copy_if_there(source / "original" / kMetaName, folder / kMetaName)) return;
  }
  if (in.tokenizer == nullptr) return note_missing(in, notes);
  std::optional<std::string> text = tiktoken_text(*in.tokenizer);
  if (!text) text = sentencepiece_model_text(*in.tokenizer);
  if (text) return write_file(folder / kMetaName, *text);
  notes.push_back("the tokenizer was left out: its merges or special tokens are not what Meta's tokenizer.model can hold");
}

}  // namespace puna
