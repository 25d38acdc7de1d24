// SPDX-License-Identifier: Apache-2.0
// Tokenizers written in another form read back to the same ids; the order of Llama 3's merges is that of the published file.
#include "text/tokenizer_export.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/json.h"
#include "expect_error.h"
#include "shared_data.h"

namespace puna {
namespace {

constexpr const char* kLlama3 = "llama3_tokenizer/tokenizer.model";
constexpr std::string_view kText = "The café's   12345 naïve\n\n\tfunctions: 中文🦙 \xFF don't";

std::unique_ptr<Tokenizer> loaded_llama3() { return load_tokenizer_file(shared_data(kLlama3)); }

// "a", "b", "c", "ab", "abc", and every other byte; specials behind.
GgufVocabulary small_vocabulary() {
  GgufVocabulary vocabulary;
  vocabulary.model = "gpt2";
  vocabulary.pre = "llama-bpe";
  int others = 0;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    const int code = printable ? byte : 0x100 + others++;
    std::string name;
    if (code < 0x80) {
      name += static_cast<char>(code);
    } else {
      name += static_cast<char>(0xC0 | (code >> 6));
      name += static_cast<char>(0x80 | (code & 63));
    }
    vocabulary.tokens.push_back(name);
  }
  for (const char* name : {"ab", "abc", "<|end_of_text|>", "<tag>"}) vocabulary.tokens.emplace_back(name);
  vocabulary.types.assign(vocabulary.tokens.size(), 1);
  vocabulary.types[258] = 3;
  vocabulary.types[259] = 4;
  vocabulary.merges = {"a b", "ab c"};
  vocabulary.eos = 258;
  vocabulary.add_bos = false;
  return vocabulary;
}

TEST(TokenizerExport, AVocabularyComesBackAsItWas) {
  const GgufVocabulary expected = small_vocabulary();
  const GgufVocabulary found = export_gguf_vocabulary(*tokenizer_from_gguf(small_vocabulary(), "test"), "test");
  EXPECT_EQ(found.tokens, expected.tokens);
  EXPECT_EQ(found.types, expected.types);
  EXPECT_EQ(found.merges, expected.merges);
  EXPECT_EQ(found.eos, expected.eos);
  EXPECT_EQ(found.bos, std::nullopt);
  EXPECT_EQ(found.pre, "llama-bpe");
}

TEST(TokenizerExport, JsonReadsBackToTheSameIdsAndKinds) {
  const auto source = tokenizer_from_gguf(small_vocabulary(), "test");
  const auto back = tokenizer_from_json(tokenizer_json_text(export_gguf_vocabulary(*source, "test")), "tokenizer.json");
  const std::string text = "abcab <tag>x<|end_of_text|>";
  EXPECT_EQ(back->encode(text), source->encode(text));
  EXPECT_EQ(back->encode_with_specials(text), source->encode_with_specials(text));
  EXPECT_EQ(back->size(), source->size());
  EXPECT_EQ(back->added(), source->added());
  EXPECT_EQ(back->specials(), source->specials());
  EXPECT_FALSE(back->adds_bos());
}

TEST(TokenizerExport, ThisVocabularyIsNoTiktokenFile) {
  EXPECT_EQ(tiktoken_text(*tokenizer_from_gguf(small_vocabulary(), "test")), std::nullopt);
}

TEST(TokenizerExport, Llama3sRanksComeBackByteForByte) {
  PUNA_NEEDS_SHARED(kLlama3);
  const auto source = loaded_llama3();
  const std::string original = read_text(shared_data(kLlama3));
  EXPECT_EQ(tiktoken_text(*source), original);
  // Through GGUF's lists as well.
  const auto gguf = tokenizer_from_gguf(export_gguf_vocabulary(*source, "test"), "test");
  EXPECT_EQ(tiktoken_text(*gguf), original);
  EXPECT_EQ(gguf->encode(kText), source->encode(kText));
}

TEST(TokenizerExport, Llama3sMergesAreThoseOfHuggingFacesFile) {
  PUNA_NEEDS_SHARED(kLlama3);
  const GgufVocabulary vocabulary = export_gguf_vocabulary(*loaded_llama3(), "test");
  // The published tokenizer.json of Llama 3 has 280,147 merges, and begins so.
  ASSERT_EQ(vocabulary.merges.size(), 280147u);
  EXPECT_EQ(vocabulary.merges[0], "\u0120 \u0120");
  EXPECT_EQ(vocabulary.merges[1], "\u0120 \u0120\u0120\u0120");
  EXPECT_EQ(vocabulary.merges[2], "\u0120\u0120 \u0120\u0120");
  EXPECT_EQ(vocabulary.merges[3], "\u0120\u0120\u0120 \u0120");
  EXPECT_EQ(vocabulary.bos, 128000);
  EXPECT_EQ(vocabulary.eos, 128001);
  EXPECT_EQ(vocabulary.eom, 128008);
  EXPECT_EQ(vocabulary.eot, 128009);
}

TEST(TokenizerExport, Llama3AsJsonPutsTheFirstTokenInFront) {
  PUNA_NEEDS_SHARED(kLlama3);
  const auto source = loaded_llama3();
  const std::string text = tokenizer_json_text(export_gguf_vocabulary(*source, "test"));
  const auto back = tokenizer_from_json(text, "tokenizer.json");
  EXPECT_EQ(back->encode(kText), source->encode(kText));
  EXPECT_EQ(back->specials(), source->specials());
  EXPECT_EQ(back->bos(), source->bos());
  EXPECT_TRUE(back->adds_bos());
  const Json json = parse_json(text, "tokenizer.json");
  EXPECT_EQ(json["model"]["ignore_merges"], true);
  EXPECT_EQ(json["post_processor"]["processors"][1]["special_tokens"]["<|begin_of_text|>"]["ids"][0], 128000);
}

GgufVocabulary small_pieces() {
  GgufVocabulary vocabulary;
  vocabulary.model = "llama";
  vocabulary.tokens = {"<unk>", "<s>", "</s>"};
  vocabulary.types = {2, 3, 3};
  for (int byte = 0; byte < 256; ++byte) {
    vocabulary.tokens.push_back(fmt::format("<0x{:02X}>", byte));
    vocabulary.types.push_back(6);
  }
  for (const char* piece : {"\u2581", "a", "b", "ab", "\u2581ab"}) {
    vocabulary.tokens.emplace_back(piece);
    vocabulary.types.push_back(1);
  }
  for (std::size_t i = 0; i < vocabulary.tokens.size(); ++i) vocabulary.scores.push_back(-static_cast<float>(i));
  vocabulary.bos = 1;
  vocabulary.eos = 2;
  return vocabulary;
}

TEST(TokenizerExport, SentencePieceReadsBackFromItsModelAndItsLists) {
  const auto source = tokenizer_from_gguf(small_pieces(), "test");
  const auto model = sentencepiece_model_text(*source);
  ASSERT_TRUE(model);
  const auto back = tokenizer_from_sentencepiece(*model, "tokenizer.model");
  const auto lists = tokenizer_from_gguf(export_gguf_vocabulary(*source, "test"), "test");
  for (const std::string text : {"abab a b", "b  ab\n", "x"}) {
    EXPECT_EQ(back->encode(text), source->encode(text)) << text;
    EXPECT_EQ(lists->encode(text), source->encode(text)) << text;
  }
  EXPECT_EQ(back->specials(), source->specials());
  EXPECT_EQ(sentencepiece_model_text(*back), *model);
  EXPECT_EQ(tiktoken_text(*source), std::nullopt);
}

TEST(TokenizerExport, SentencePieceGoesOnRemovingSpaces) {
  for (const bool removes : {false, true}) {
    GgufVocabulary vocabulary = small_pieces();
    vocabulary.remove_extra_whitespaces = removes;
    const auto source = tokenizer_from_gguf(vocabulary, "test");
    EXPECT_EQ(source->encode("  a  b ") == source->encode("a b"), removes);
    const GgufVocabulary lists = export_gguf_vocabulary(*source, "test");
    EXPECT_EQ(lists.remove_extra_whitespaces, removes);
    EXPECT_EQ(tokenizer_from_gguf(lists, "test")->encode("  a  b "), source->encode("  a  b "));
  }
}

TEST(TokenizerExport, SentencePieceThatKeepsSpacesHasNoGguf) {
  std::string model = *sentencepiece_model_text(*tokenizer_from_gguf(small_pieces(), "test"));
  ASSERT_EQ(model.substr(model.size() - 2), (std::string{5 << 3, 1})) << "the last field is escape_whitespaces";
  model.back() = 0;
  const auto source = tokenizer_from_sentencepiece(model, "tokenizer.model");
  expect_error(ErrorKind::kUnsupported, "[m] the tokenizer keeps spaces as they are",
               [&] { export_gguf_vocabulary(*source, "m"); });
}

}  // namespace
}  // namespace puna
