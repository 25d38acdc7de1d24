// SPDX-License-Identifier: Apache-2.0
// Text to tokens and back. Text from users never becomes a special token: `encode` treats the characters of
// "<|eot_id|>" as characters; only `encode_with_specials` and `special()` (used by prompt templates) produce them.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/name_matcher.h"
#include "text/token.h"

namespace puna {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Ordinary text; any bytes are accepted (invalid UTF-8 encodes through byte tokens). Byte-level BPE decodes them to themselves;
  // SentencePiece to what its model makes of them: it may remove extra spaces, and U+2581 comes back as a space.
  std::vector<Token> encode(std::string_view text) const;
  // The same, but the literal text of a special token becomes that token. For templates and for users who ask (--special).
  std::vector<Token> encode_with_specials(std::string_view text) const;
  // Ordinary text that follows `before` with nothing between, where that was encoded by itself. SentencePiece puts no space in
  // front of it, and a space that encode() left out at the end of `before` comes first. Behind nothing: encode().
  virtual std::vector<Token> encode_continuation(std::string_view before, std::string_view text) const;

  // The bytes of the tokens. Special tokens are left out unless asked for. SentencePiece: the space that encode() puts in front
  // of a text is taken off again when the first token carries it. Throws kUsage for an id outside the vocabulary.
  std::string decode(std::span<const Token> tokens, bool with_specials = false) const;
  // One token's bytes as they stand in the middle of a text; empty for a special token unless asked for.
  std::string piece(Token token, bool with_specials = false) const;

  int size() const { return size_; }  // ids are 0 .. size-1
  bool contains(Token token) const { return id(token) >= 0 && id(token) < size_; }
  bool is_special(Token token) const;
  std::optional<Token> special(std::string_view name) const;                                // "<|eot_id|>"
  const std::vector<std::pair<std::string, Token>>& specials() const { return specials_; }  // by ascending id
  std::optional<Token> bos() const { return bos_; }
  const std::vector<Token>& end_tokens() const { return end_tokens_; }  // end of text, of message, of turn: all of them
  bool adds_bos() const { return adds_bos_; }                           // what the file says a plain completion starts with
  std::string_view kind() const { return kind_; }                       // "byte-level BPE" or "SentencePiece"

  // Ordinary tokens that are found in text before it is cut into pieces (`added_tokens` that are not special).
  const std::vector<std::pair<std::string, Token>>& added() const { return added_; }

  // What the model's own files say about beginnings and ends (config.json, generation_config.json, GGUF keys) adds to, or
  // replaces, what the vocabulary's file knew.
  void set_bos(std::optional<Token> bos, bool add) { bos_ = bos, adds_bos_ = add; }
  void add_end_token(Token token);

 protected:
  virtual void encode_text(std::string_view text, std::vector<Token>& tokens) const = 0;  // appends
  virtual std::string bytes_of(Token token) const = 0;                                    // of an ordinary token
  virtual bool strips_first_space() const { return false; }                               // SentencePiece's dummy prefix
  // Once, after size_ is set. `added` are ordinary tokens that are found in text before it is cut into pieces. Special tokens with
  // the names that Llama's files use for beginnings and ends become bos and end tokens.
  void set_names(std::vector<std::pair<std::string, Token>> specials, std::vector<std::pair<std::string, Token>> added);

  std::string_view kind_;
  int size_ = 0;

 private:
  void encode_between(const NameMatcher& names, std::string_view text, std::vector<Token>& tokens) const;
  void check(Token token) const;

  std::vector<std::pair<std::string, Token>> specials_, added_;
  std::vector<bool> special_mask_;  // [size]
  NameMatcher special_names_, added_names_, all_names_;
  std::optional<Token> bos_;
  std::vector<Token> end_tokens_;
  bool adds_bos_ = false;
};

// A vocabulary as a GGUF file holds it (model/ reads the keys; text/ knows nothing of files of weights).
struct GgufVocabulary {
  std::string model;  // tokenizer.ggml.model: "gpt2" (byte-level BPE) or "llama" (SentencePiece)
  std::string pre;    // tokenizer.ggml.pre: "llama-bpe", …
  std::vector<std::string> tokens;
  std::vector<float> scores;
  std::vector<int> types;  // 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte
  std::vector<std::string> merges;
  std::optional<int> bos, eos, eot, eom;
  std::optional<bool> add_bos, add_space_prefix, remove_extra_whitespaces;
};

// `where` names the file in messages. All throw kBadInput for malformed bytes, kUnsupported for a kind not listed in the guide.
std::unique_ptr<Tokenizer> tokenizer_from_gguf(GgufVocabulary vocabulary, const std::string& where);
std::unique_ptr<Tokenizer> tokenizer_from_tiktoken(std::string_view bytes, const std::string& where);
std::unique_ptr<Tokenizer> tokenizer_from_json(std::string_view bytes, const std::string& where);
std::unique_ptr<Tokenizer> tokenizer_from_sentencepiece(std::string_view bytes, const std::string& where);

// Recognises a bare tokenizer file by its bytes: tokenizer.json, tiktoken ranks or a SentencePiece model.
std::unique_ptr<Tokenizer> load_tokenizer_file(const std::filesystem::path& path);
// The tokenizer of a checkpoint folder (tokenizer.json, then tokenizer.model), with what tokenizer_config.json,
// config.json and generation_config.json say of bos and eos; nullptr where the folder has none.
std::unique_ptr<Tokenizer> load_tokenizer_folder(const std::filesystem::path& folder);

}  // namespace puna
