// SPDX-License-Identifier: Apache-2.0
// Widths matter: llama.cpp refuses a count that is not U32 and an epsilon that is not F32.
#include "quant/gguf_metadata.h"

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>
#include <variant>

#include "base/error.h"
#include "text/tokenizer_export.h"

namespace puna {
namespace {

using Type = GgufScalar::Type;

constexpr std::int64_t kQuantizationVersion = 2;

GgufWriteValue count(std::int64_t value) { return GgufScalar{Type::kU32, value}; }
GgufWriteValue real(double value) { return GgufScalar{Type::kF32, value}; }
GgufWriteValue flag(bool value) { return GgufScalar{Type::kBool, std::int64_t{value}}; }
GgufWriteValue text(std::string_view value) { return GgufScalar{Type::kString, std::string(value)}; }

// The reader widened all integers; the narrowest type that other programs expect holds them again.
GgufWriteValue integer(std::int64_t value) {
  if (value >= 0 && value <= std::numeric_limits<std::uint32_t>::max()) return count(value);
  const bool narrow = value >= std::numeric_limits<std::int32_t>::min() && value < 0;
  return GgufScalar{narrow ? Type::kI32 : Type::kI64, value};
}

// nullopt for arrays that the writer has no type for (of truth values, or of integers beyond 32 bits).
std::optional<GgufWriteValue> copied(const GgufArray& array) {
  if (const auto* strings = std::get_if<std::vector<std::string_view>>(&array)) {
    return std::vector<std::string>(strings->begin(), strings->end());
  }
  if (const auto* reals = std::get_if<std::vector<double>>(&array)) return std::vector<float>(reals->begin(), reals->end());
  const auto* integers = std::get_if<std::vector<std::int64_t>>(&array);
  if (integers == nullptr) return std::nullopt;
  for (const std::int64_t value : *integers) {
    if (value != static_cast<std::int32_t>(value)) return std::nullopt;
  }
  return std::vector<std::int32_t>(integers->begin(), integers->end());
}

std::optional<GgufWriteValue> copied(const GgufValue& value) {
  if (const auto* whole = std::get_if<std::int64_t>(&value)) return integer(*whole);
  if (const auto* large = std::get_if<std::uint64_t>(&value)) return GgufScalar{Type::kU64, static_cast<std::int64_t>(*large)};
  if (const auto* number = std::get_if<double>(&value)) return real(*number);
  if (const auto* truth = std::get_if<bool>(&value)) return flag(*truth);
  if (const auto* string = std::get_if<std::string_view>(&value)) return text(*string);
  return copied(std::get<GgufArray>(value));
}

// Keys that describe the file rather than the model, or are written anew.
bool belongs_to_the_file(std::string_view key) {
  static constexpr std::array<std::string_view, 3> kOwn = {"general.file_type", "general.quantization_version",
                                                           "general.alignment"};
  for (const std::string_view own : kOwn) {
    if (key == own) return true;
  }
  return key.starts_with("split.");
}

void add_from_file(const GgufFile& file, GgufMetadata& metadata) {
  for (const auto& [key, value] : file.metadata()) {
    if (belongs_to_the_file(key)) continue;
    if (auto copy = copied(value)) metadata.emplace_back(key, std::move(*copy));
  }
}

void add_config(const ModelConfig& config, GgufMetadata& metadata) {
  metadata.emplace_back("general.architecture", text("llama"));
  metadata.emplace_back("general.type", text("model"));
  metadata.emplace_back("general.name", text(config.name));
  metadata.emplace_back("llama.vocab_size", count(config.vocabulary));
  metadata.emplace_back("llama.context_length", count(config.context));
  metadata.emplace_back("llama.embedding_length", count(config.width));
  metadata.emplace_back("llama.block_count", count(config.layers));
  metadata.emplace_back("llama.feed_forward_length", count(config.feed_forward));
  metadata.emplace_back("llama.attention.head_count", count(config.heads));
  metadata.emplace_back("llama.attention.head_count_kv", count(config.kv_heads));
  metadata.emplace_back("llama.attention.key_length", count(config.head_width));
  metadata.emplace_back("llama.attention.value_length", count(config.head_width));
  metadata.emplace_back("llama.attention.layer_norm_rms_epsilon", real(config.norm_eps));
  metadata.emplace_back("llama.rope.dimension_count", count(config.head_width));
  metadata.emplace_back("llama.rope.freq_base", real(config.rope_theta));
  if (config.rope_linear_factor == 1) return;
  metadata.emplace_back("llama.rope.scaling.type", text("linear"));
  metadata.emplace_back("llama.rope.scaling.factor", real(config.rope_linear_factor));
}

void add_id(const char* key, std::optional<int> id, GgufMetadata& metadata) {
  if (id) metadata.emplace_back(key, count(*id));
}

void add_vocabulary(const Checkpoint& in, GgufMetadata& metadata) {
  if (in.tokenizer == nullptr) {
    metadata.emplace_back("tokenizer.ggml.model", text("none"));
    return;
  }
  GgufVocabulary vocabulary = export_gguf_vocabulary(*in.tokenizer, in.where);
  // Embeddings beyond the vocabulary (rows that pad it) have no text; llama.cpp wants a name for each.
  const auto rows = static_cast<std::size_t>(in.config.vocabulary);
  if (vocabulary.tokens.size() > rows) {
    fail(ErrorKind::kBadInput, in.where, "the tokenizer has {} tokens, but there are {} embeddings: it belongs to another model",
         vocabulary.tokens.size(), rows);
  }
  constexpr int kUnused = 5;
  while (vocabulary.tokens.size() < rows) {
    vocabulary.tokens.push_back(fmt::format("[PAD{}]", vocabulary.tokens.size()));
    vocabulary.types.push_back(kUnused);
    if (!vocabulary.scores.empty()) vocabulary.scores.push_back(-1e4f);
  }
  metadata.emplace_back("tokenizer.ggml.model", text(vocabulary.model));
  metadata.emplace_back("tokenizer.ggml.pre", text(vocabulary.pre));
  metadata.emplace_back("tokenizer.ggml.tokens", std::move(vocabulary.tokens));
  if (!vocabulary.scores.empty()) metadata.emplace_back("tokenizer.ggml.scores", std::move(vocabulary.scores));
  metadata.emplace_back("tokenizer.ggml.token_type", std::vector<std::int32_t>(vocabulary.types.begin(), vocabulary.types.end()));
  if (!vocabulary.merges.empty()) metadata.emplace_back("tokenizer.ggml.merges", std::move(vocabulary.merges));
  add_id("tokenizer.ggml.bos_token_id", vocabulary.bos, metadata);
  // A chat model's turns end with <|eot_id|>, and programs that know of one end token only take eos.
  const bool chat = !in.chat_template.empty() && vocabulary.eot;
  add_id("tokenizer.ggml.eos_token_id", chat ? vocabulary.eot : vocabulary.eos, metadata);
  add_id("tokenizer.ggml.eot_token_id", vocabulary.eot, metadata);
  add_id("tokenizer.ggml.eom_token_id", vocabulary.eom, metadata);
  if (vocabulary.add_bos) metadata.emplace_back("tokenizer.ggml.add_bos_token", flag(*vocabulary.add_bos));
  if (vocabulary.add_space_prefix) metadata.emplace_back("tokenizer.ggml.add_space_prefix", flag(*vocabulary.add_space_prefix));
  if (vocabulary.remove_extra_whitespaces)
    metadata.emplace_back("tokenizer.ggml.remove_extra_whitespaces", flag(*vocabulary.remove_extra_whitespaces));
}

}  // namespace

GgufMetadata gguf_metadata(const Checkpoint& in, int file_type) {
  GgufMetadata metadata;
  if (in.kind == CheckpointKind::kGguf) {
    add_from_file(gguf_file_of(in), metadata);
  } else {
    add_config(in.config, metadata);
    add_vocabulary(in, metadata);
    if (!in.chat_template.empty()) metadata.emplace_back("tokenizer.chat_template", text(in.chat_template));
  }
  if (file_type >= 0) metadata.emplace_back("general.file_type", count(file_type));
  metadata.emplace_back("general.quantization_version", count(kQuantizationVersion));
  return metadata;
}

}  // namespace puna
