// SPDX-License-Identifier: Apache-2.0
// The vocabulary inside a GGUF file: "gpt2" is byte-level BPE in the printable byte alphabet, "llama" is SentencePiece.
#include <algorithm>
#include <array>

#include "base/error.h"
#include "text/byte_bpe.h"
#include "text/sentencepiece_bpe.h"

namespace puna {
namespace {

// Names that llama.cpp gives to pre-tokenizers with Llama 3's pattern and `ignore_merges`, and to GPT-2's.
constexpr std::array<std::string_view, 3> kLlama3Names = {"llama-bpe", "llama3", "llama-v3"};
constexpr std::string_view kGpt2Name = "gpt-2";

Token checked_token(int id, const char* key, std::size_t size, const std::string& where) {
  if (id < 0 || static_cast<std::size_t>(id) >= size) {
    fail(ErrorKind::kBadInput, where, "{} is {}, outside the vocabulary of {} tokens", key, id, size);
  }
  return static_cast<Token>(id);
}

void check_lengths(const GgufVocabulary& vocabulary, const std::string& where) {
  const std::size_t size = vocabulary.tokens.size();
  if (size == 0) fail(ErrorKind::kBadInput, where, "tokenizer.ggml.tokens is empty");
  if (!vocabulary.types.empty() && vocabulary.types.size() != size) {
    fail(ErrorKind::kBadInput, where, "tokenizer.ggml.token_type has {} entries for {} tokens", vocabulary.types.size(), size);
  }
  if (!vocabulary.scores.empty() && vocabulary.scores.size() != size) {
    fail(ErrorKind::kBadInput, where, "tokenizer.ggml.scores has {} entries for {} tokens", vocabulary.scores.size(), size);
  }
}

void set_ends(Tokenizer& tokenizer, const GgufVocabulary& vocabulary, bool adds_bos, const std::string& where) {
  const std::size_t size = vocabulary.tokens.size();
  auto bos = tokenizer.bos();
  if (vocabulary.bos) bos = checked_token(*vocabulary.bos, "tokenizer.ggml.bos_token_id", size, where);
  tokenizer.set_bos(bos, bos && vocabulary.add_bos.value_or(adds_bos));
  if (vocabulary.eos) tokenizer.add_end_token(checked_token(*vocabulary.eos, "tokenizer.ggml.eos_token_id", size, where));
  if (vocabulary.eot) tokenizer.add_end_token(checked_token(*vocabulary.eot, "tokenizer.ggml.eot_token_id", size, where));
  if (vocabulary.eom) tokenizer.add_end_token(checked_token(*vocabulary.eom, "tokenizer.ggml.eom_token_id", size, where));
}

ByteBpeVocabulary byte_vocabulary(const GgufVocabulary& from, const std::string& where) {
  ByteBpeVocabulary to;
  to.pieces = PieceTable(from.tokens.size());
  std::string bytes;
  for (std::uint32_t id = 0; id < from.tokens.size(); ++id) {
    const int type = from.types.empty() ? 1 : from.types[id];
    const std::string& name = from.tokens[id];
    if (type != 1 && type != 6) {  // 2 unknown, 3 control, 4 user defined, 5 unused: the text stands for itself
      to.pieces.add(id, name, false);
      if (type == 3) to.specials.emplace_back(name, static_cast<Token>(id));
      if (type == 4) to.added.emplace_back(name, static_cast<Token>(id));
      continue;
    }
    bytes.clear();
    if (!append_alphabet_bytes(name, bytes)) {
      fail(ErrorKind::kBadInput, where, "token {} is not written in the byte-level alphabet: the file is damaged", id);
    }
    if (!to.pieces.add(id, bytes)) fail(ErrorKind::kBadInput, where, "token {} has the text of an earlier token, or none", id);
  }
  return to;
}

std::unique_ptr<Tokenizer> byte_tokenizer(GgufVocabulary vocabulary, const std::string& where) {
  const bool llama3 = std::find(kLlama3Names.begin(), kLlama3Names.end(), vocabulary.pre) != kLlama3Names.end();
  if (!llama3 && vocabulary.pre != kGpt2Name) {
    fail(ErrorKind::kUnsupported, where, "tokenizer.ggml.pre is \"{}\", expected \"llama-bpe\" or \"gpt-2\"", vocabulary.pre);
  }
  if (vocabulary.tokens.size() > BpeMerges::kMaxIds) {
    fail(ErrorKind::kUnsupported, where, "a vocabulary of {} tokens, at most {} can be held", vocabulary.tokens.size(),
         BpeMerges::kMaxIds);
  }
  ByteBpeVocabulary built = byte_vocabulary(vocabulary, where);
  built.pattern = llama3 ? SplitPattern::kLlama3 : SplitPattern::kGpt2;
  built.whole_pieces = llama3;
  std::vector<BpeRule> rules;
  rules.reserve(vocabulary.merges.size());
  for (const std::string_view merge : vocabulary.merges) {
    const std::size_t space = merge.find(' ', 1);
    if (space == std::string_view::npos)
      fail(ErrorKind::kBadInput, where, "merge {} is \"{}\", expected two tokens", rules.size(), merge);
    rules.push_back(alphabet_rule(merge.substr(0, space), merge.substr(space + 1), rules.size(), built.pieces, where));
  }
  auto tokenizer = std::make_unique<ByteBpe>(std::move(built), rules, where);
  set_ends(*tokenizer, vocabulary, llama3, where);
  return tokenizer;
}

std::unique_ptr<Tokenizer> sentencepiece_tokenizer(GgufVocabulary vocabulary, const std::string& where) {
  SentencePieceVocabulary built;
  built.add_dummy_prefix = vocabulary.add_space_prefix.value_or(true);
  built.remove_extra_spaces = vocabulary.remove_extra_whitespaces.value_or(false);
  if (vocabulary.scores.empty())
    fail(ErrorKind::kBadInput, where, "tokenizer.ggml.scores is missing, which a \"llama\" vocabulary needs");
  built.pieces.reserve(vocabulary.tokens.size());
  for (std::size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    const int type = vocabulary.types.empty() ? 1 : vocabulary.types[i];
    if (type < 1 || type > 6) fail(ErrorKind::kBadInput, where, "token {} has the type {}, expected 1 to 6", i, type);
    built.pieces.push_back({vocabulary.tokens[i], vocabulary.scores[i], static_cast<PieceType>(type)});
  }
  auto tokenizer = std::make_unique<SentencePieceBpe>(std::move(built), where);
  set_ends(*tokenizer, vocabulary, true, where);
  return tokenizer;
}

}  // namespace

std::unique_ptr<Tokenizer> tokenizer_from_gguf(GgufVocabulary vocabulary, const std::string& where) {
  check_lengths(vocabulary, where);
  if (vocabulary.model == "gpt2") return byte_tokenizer(std::move(vocabulary), where);
  if (vocabulary.model == "llama") return sentencepiece_tokenizer(std::move(vocabulary), where);
  fail(ErrorKind::kUnsupported, where,
       "tokenizer.ggml.model is \"{}\", expected \"gpt2\" (byte-level BPE) or \"llama\" (SentencePiece)", vocabulary.model);
}

}  // namespace puna
