// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer_export.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <string_view>
#include <tuple>

#include "base/error.h"
#include "base/json.h"
#include "text/byte_bpe.h"
#include "text/sentencepiece_bpe.h"

namespace puna {
namespace {

constexpr int kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5;  // GGUF token types
constexpr std::uint32_t kMetaSpecials = 256;

bool by_merged(const BpeRule& a, const BpeRule& b) { return a.merged < b.merged; }
bool by_merged_and_sides(const BpeRule& a, const BpeRule& b) {
  return std::tie(a.merged, a.left, a.right) < std::tie(b.merged, b.left, b.right);
}

std::vector<BpeRule> ordered_rules(const ByteBpe& tokenizer) {
  std::vector<BpeRule> rules = tokenizer.rules();
  if (std::is_sorted(rules.begin(), rules.end(), by_merged)) std::sort(rules.begin(), rules.end(), by_merged_and_sides);
  return rules;
}

std::string pre_tokenizer_name(const ByteBpe& tokenizer, const std::string& where) {
  if (tokenizer.pattern() == SplitPattern::kGpt2) return "gpt-2";
  if (!tokenizer.whole_pieces()) {
    fail(ErrorKind::kUnsupported, where,
         "the tokenizer has Llama 3's pattern without ignore_merges, for which GGUF has no name: keep it as a Hugging Face folder");
  }
  return "llama-bpe";
}

void export_pieces(const ByteBpe& tokenizer, GgufVocabulary& vocabulary) {
  const std::size_t size = tokenizer.pieces().size();
  vocabulary.tokens.resize(size);
  vocabulary.types.assign(size, kNormal);
  for (const auto& [name, token] : tokenizer.specials()) vocabulary.types[static_cast<std::size_t>(id(token))] = kControl;
  for (const auto& [name, token] : tokenizer.added()) vocabulary.types[static_cast<std::size_t>(id(token))] = kUserDefined;
  for (std::uint32_t i = 0; i < size; ++i) {
    const std::string_view bytes = tokenizer.pieces().bytes(i);
    std::string& name = vocabulary.tokens[i];
    if (vocabulary.types[i] != kNormal) {
      name = bytes;
    } else if (bytes.empty()) {
      name = fmt::format("[PAD{}]", i);
      vocabulary.types[i] = kUnused;
    } else if (tokenizer.whole_pieces() && tokenizer.pieces().find(bytes) != i) {
      name = bytes;  // an id that no text becomes
      vocabulary.types[i] = kUnused;
    } else {
      append_in_alphabet(bytes, name);
    }
  }
}

void export_byte_bpe(const ByteBpe& tokenizer, GgufVocabulary& vocabulary, const std::string& where) {
  vocabulary.model = "gpt2";
  vocabulary.pre = pre_tokenizer_name(tokenizer, where);
  export_pieces(tokenizer, vocabulary);
  for (const BpeRule& rule : ordered_rules(tokenizer)) {
    vocabulary.merges.push_back(vocabulary.tokens[rule.left] + ' ' + vocabulary.tokens[rule.right]);
  }
}

void export_sentencepiece(const SentencePieceBpe& tokenizer, GgufVocabulary& vocabulary, const std::string& where) {
  const SentencePieceVocabulary source = tokenizer.vocabulary();
  if (!source.escape_spaces) {
    fail(ErrorKind::kUnsupported, where,
         "the tokenizer keeps spaces as they are, and GGUF has them written U+2581: keep the model in the folder that it is in");
  }
  vocabulary.model = "llama";
  vocabulary.pre = "default";
  vocabulary.add_space_prefix = source.add_dummy_prefix;
  vocabulary.remove_extra_whitespaces = source.remove_extra_spaces;
  for (const SentencePiece& piece : source.pieces) {
    vocabulary.tokens.push_back(piece.text);
    vocabulary.scores.push_back(piece.score);
    vocabulary.types.push_back(static_cast<int>(piece.type));
  }
}

std::optional<int> optional_id(std::optional<Token> token) { return token ? std::optional<int>(id(*token)) : std::nullopt; }

void export_ends(const Tokenizer& tokenizer, GgufVocabulary& vocabulary) {
  vocabulary.bos = optional_id(tokenizer.bos());
  vocabulary.add_bos = tokenizer.adds_bos();
  for (const char* name : {"<|end_of_text|>", "</s>"}) {
    if (!vocabulary.eos) vocabulary.eos = optional_id(tokenizer.special(name));
  }
  if (!vocabulary.eos && !tokenizer.end_tokens().empty()) vocabulary.eos = id(tokenizer.end_tokens().front());
  vocabulary.eot = optional_id(tokenizer.special("<|eot_id|>"));
  vocabulary.eom = optional_id(tokenizer.special("<|eom_id|>"));
}

Json split_step() {
  return {{"type", "Split"}, {"pattern", {{"Regex", std::string(kLlama3Regex)}}}, {"behavior", "Isolated"}, {"invert", false}};
}

Json byte_level(bool add_prefix_space, bool trim_offsets, bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", add_prefix_space}, {"trim_offsets", trim_offsets}, {"use_regex", use_regex}};
}

Json pre_tokenizer_json(bool llama3) {
  if (!llama3) return byte_level(false, true, true);
  return {{"type", "Sequence"}, {"pretokenizers", Json::array({split_step(), byte_level(false, true, false)})}};
}

// Puts the first token in front of every text, as the library's template language says it.
Json post_processor_json(const GgufVocabulary& vocabulary) {
  const Json bytes = byte_level(true, false, true);
  if (!vocabulary.bos || !vocabulary.add_bos.value_or(false)) return bytes;
  const std::string& name = vocabulary.tokens[static_cast<std::size_t>(*vocabulary.bos)];
  const auto special = [&](int type) { return Json{{"SpecialToken", {{"id", name}, {"type_id", type}}}}; };
  const auto sequence = [](const char* id, int type) { return Json{{"Sequence", {{"id", id}, {"type_id", type}}}}; };
  const Json tokens = {{name, {{"id", name}, {"ids", Json::array({*vocabulary.bos})}, {"tokens", Json::array({name})}}}};
  const Json steps = {{"type", "TemplateProcessing"},
                      {"single", Json::array({special(0), sequence("A", 0)})},
                      {"pair", Json::array({special(0), sequence("A", 0), special(1), sequence("B", 1)})},
                      {"special_tokens", tokens}};
  return {{"type", "Sequence"}, {"processors", Json::array({bytes, steps})}};
}

Json added_tokens_json(const GgufVocabulary& vocabulary) {
  Json list = Json::array();
  for (std::size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    const int type = vocabulary.types.empty() ? kNormal : vocabulary.types[i];
    if (type != kControl && type != kUserDefined) continue;
    list.push_back({{"id", i},
                    {"content", vocabulary.tokens[i]},
                    {"single_word", false},
                    {"lstrip", false},
                    {"rstrip", false},
                    {"normalized", false},
                    {"special", type == kControl}});
  }
  return list;
}

std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    const std::string_view group = bytes.substr(at, 3);
    std::uint32_t bits = 0;
    for (std::size_t i = 0; i < 3; ++i) bits = bits << 8 | (i < group.size() ? static_cast<unsigned char>(group[i]) : 0);
    for (std::size_t i = 0; i < 4; ++i) text += i <= group.size() ? kDigits[(bits >> (18 - 6 * i)) & 63] : '=';
  }
  return text;
}

// All specials are the last 256 ids, in order.
bool has_meta_specials(const ByteBpe& tokenizer) {
  const std::size_t size = tokenizer.pieces().size();
  if (tokenizer.specials().size() != kMetaSpecials || !tokenizer.added().empty() || size <= kMetaSpecials) return false;
  return id(tokenizer.specials().front().second) == static_cast<std::int32_t>(size - kMetaSpecials);
}

bool joins_by_rank(const ByteBpe& tokenizer) {
  std::vector<BpeRule> own = tokenizer.rules(), ranked = rules_of_ranks(tokenizer.pieces());
  if (!std::is_sorted(own.begin(), own.end(), by_merged) || own.size() != ranked.size()) return false;
  std::sort(own.begin(), own.end(), by_merged_and_sides);
  std::sort(ranked.begin(), ranked.end(), by_merged_and_sides);
  return std::equal(own.begin(), own.end(), ranked.begin(), [](const BpeRule& a, const BpeRule& b) {
    return a.left == b.left && a.right == b.right && a.merged == b.merged;
  });
}

// A protocol buffer under construction: fields of sentencepiece_model.proto.
class ProtoWriter {
 public:
  void number(std::uint32_t field, std::uint64_t value) {
    varint(std::uint64_t{field} << 3);
    varint(value);
  }
  void real(std::uint32_t field, float value) {
    varint(std::uint64_t{field} << 3 | 5);
    const auto bits = std::bit_cast<std::uint32_t>(value);
    for (int shift = 0; shift < 32; shift += 8) bytes_ += static_cast<char>((bits >> shift) & 255);
  }
  void text(std::uint32_t field, std::string_view value) {
    varint(std::uint64_t{field} << 3 | 2);
    varint(value.size());
    bytes_ += value;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void varint(std::uint64_t value) {
    for (; value >= 128; value >>= 7) bytes_ += static_cast<char>((value & 127) | 128);
    bytes_ += static_cast<char>(value);
  }
  std::string bytes_;
};

}  // namespace

GgufVocabulary export_gguf_vocabulary(const Tokenizer& tokenizer, const std::string& where) {
  GgufVocabulary vocabulary;
  if (const auto* bytes = dynamic_cast<const ByteBpe*>(&tokenizer)) {
    export_byte_bpe(*bytes, vocabulary, where);
  } else if (const auto* pieces = dynamic_cast<const SentencePieceBpe*>(&tokenizer)) {
    export_sentencepiece(*pieces, vocabulary, where);
  } else {
    fail(ErrorKind::kUnsupported, where, "a {} tokenizer cannot be written to a GGUF file", tokenizer.kind());
  }
  export_ends(tokenizer, vocabulary);
  return vocabulary;
}

std::string tokenizer_json_text(const GgufVocabulary& vocabulary) {
  PUNA_CHECK(vocabulary.model == "gpt2", "tokenizer.json", "a \"{}\" vocabulary is no byte-level BPE", vocabulary.model);
  const bool llama3 = vocabulary.pre != "gpt-2";
  Json tokens = Json::object();
  for (std::size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    if (vocabulary.types.empty() || vocabulary.types[i] == kNormal) tokens[vocabulary.tokens[i]] = i;
  }
  const Json model = {{"type", "BPE"},
                      {"dropout", nullptr},
                      {"unk_token", nullptr},
                      {"continuing_subword_prefix", nullptr},
                      {"end_of_word_suffix", nullptr},
                      {"fuse_unk", false},
                      {"byte_fallback", false},
                      {"ignore_merges", llama3},
                      {"vocab", std::move(tokens)},
                      {"merges", vocabulary.merges}};
  return dump_json({{"version", "1.0"},
                    {"truncation", nullptr},
                    {"padding", nullptr},
                    {"added_tokens", added_tokens_json(vocabulary)},
                    {"normalizer", nullptr},
                    {"pre_tokenizer", pre_tokenizer_json(llama3)},
                    {"post_processor", post_processor_json(vocabulary)},
                    {"decoder", byte_level(true, true, true)},
                    {"model", model}});
}

std::optional<std::string> tiktoken_text(const Tokenizer& tokenizer) {
  const auto* bytes = dynamic_cast<const ByteBpe*>(&tokenizer);
  if (bytes == nullptr || bytes->pattern() != SplitPattern::kLlama3 || !bytes->whole_pieces()) return std::nullopt;
  if (!has_meta_specials(*bytes) || !joins_by_rank(*bytes)) return std::nullopt;
  std::string text;
  for (std::uint32_t rank = 0; rank < bytes->pieces().size() - kMetaSpecials; ++rank) {
    text += fmt::format("{} {}\n", base64(bytes->pieces().bytes(rank)), rank);
  }
  return text;
}

std::optional<std::string> sentencepiece_model_text(const Tokenizer& tokenizer) {
  const auto* source = dynamic_cast<const SentencePieceBpe*>(&tokenizer);
  if (source == nullptr) return std::nullopt;
  const SentencePieceVocabulary vocabulary = source->vocabulary();
  ProtoWriter model;
  for (const SentencePiece& entry : vocabulary.pieces) {
    ProtoWriter piece;
    piece.text(1, entry.text);
    piece.real(2, entry.score);
    if (entry.type != PieceType::kNormal) piece.number(3, static_cast<std::uint64_t>(entry.type));
    model.text(1, piece.bytes());
  }
  const bool has_bytes = std::any_of(vocabulary.pieces.begin(), vocabulary.pieces.end(),
                                     [](const SentencePiece& piece) { return piece.type == PieceType::kByte; });
  ProtoWriter trainer;
  trainer.number(3, 2);                         // model_type: BPE
  trainer.number(4, vocabulary.pieces.size());  // vocab_size
  trainer.number(35, has_bytes ? 1 : 0);        // byte_fallback
  model.text(2, trainer.bytes());
  ProtoWriter normalizer;
  normalizer.text(1, "identity");
  normalizer.number(3, vocabulary.add_dummy_prefix ? 1 : 0);
  normalizer.number(4, vocabulary.remove_extra_spaces ? 1 : 0);
  normalizer.number(5, vocabulary.escape_spaces ? 1 : 0);
  model.text(3, normalizer.bytes());
  return model.bytes();
}

}  // namespace puna
