// SPDX-License-Identifier: Apache-2.0
// Llama 3's tokenizer against tiktoken: golden ids of many texts and digests of whole books (tools/golden/make_tokens.mjs).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>
#include <sstream>

#include "base/error.h"
#include "base/json.h"
#include "base/random.h"
#include "base/sha256.h"
#include "shared_data.h"
#include "text/tokenizer.h"
#include "text/tokenizer_export.h"

namespace puna {
namespace {

const char* const kModel = "llama3_tokenizer/tokenizer.model";

std::vector<int> ids(const std::vector<Token>& tokens) {
  std::vector<int> numbers;
  for (const Token token : tokens) numbers.push_back(id(token));
  return numbers;
}

std::string digest(const std::vector<Token>& tokens) {
  Sha256 sha;
  sha.update(std::as_bytes(std::span(tokens)));
  return sha.finish();
}

const Tokenizer& llama3() {
  static const auto tokenizer = load_tokenizer_file(shared_data(kModel));
  return *tokenizer;
}

TEST(Llama3Tokenizer, GivesTiktokensIds) {
  PUNA_NEEDS_SHARED(kModel);
  std::istringstream lines(read_text(golden("text/tokens.jsonl")));
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const Json entry = parse_json(line, "tokens.jsonl");
    const auto text = entry["text"].get<std::string>();
    EXPECT_EQ(ids(llama3().encode(text)), entry["ids"].get<std::vector<int>>()) << entry["text"];
    EXPECT_EQ(llama3().decode(llama3().encode(text)), text);
  }
  EXPECT_GT(count, 280);
}

TEST(Llama3Tokenizer, GivesTiktokensIdsForWholeBooks) {
  PUNA_NEEDS_SHARED(kModel);
  PUNA_NEEDS_SHARED("books");
  const Json digests = parse_json(read_text(golden("text/book_tokens.json")), "book_tokens.json");
  for (const auto& [file, expected] : digests.items()) {
    const std::string text = file == "a x 100000" ? std::string(100000, 'a') : read_text(shared_data(file));
    const auto tokens = llama3().encode(text);
    EXPECT_EQ(tokens.size(), expected["count"].get<std::size_t>()) << file;
    EXPECT_EQ(digest(tokens), expected["sha256"].get<std::string>()) << file;
    EXPECT_EQ(llama3().decode(tokens), text) << file;
  }
}

TEST(Llama3Tokenizer, KnowsTheVocabularyAndItsSpecialTokens) {
  PUNA_NEEDS_SHARED(kModel);
  EXPECT_EQ(llama3().size(), 128256);
  EXPECT_EQ(llama3().kind(), "byte-level BPE");
  EXPECT_EQ(llama3().specials().size(), 256u);
  EXPECT_EQ(llama3().bos(), static_cast<Token>(128000));
  EXPECT_TRUE(llama3().adds_bos());
  EXPECT_EQ(ids(llama3().end_tokens()), (std::vector<int>{128001, 128008, 128009}));
  EXPECT_EQ(llama3().special("<|python_tag|>"), static_cast<Token>(128010));
  EXPECT_EQ(llama3().special("<|reserved_special_token_0|>"), static_cast<Token>(128002));
  EXPECT_EQ(llama3().special("<|reserved_special_token_2|>"), static_cast<Token>(128012));
  EXPECT_EQ(llama3().special("<|reserved_special_token_245|>"), static_cast<Token>(128255));
  EXPECT_EQ(llama3().special("<|reserved_special_token_246|>"), std::nullopt);
  EXPECT_TRUE(llama3().is_special(static_cast<Token>(128255)));
  EXPECT_FALSE(llama3().is_special(static_cast<Token>(127999)));
  EXPECT_FALSE(llama3().is_special(static_cast<Token>(-1)));
  EXPECT_EQ(llama3().piece(static_cast<Token>(127999)), "\xE9\x94\xA6");
  EXPECT_EQ(llama3().piece(static_cast<Token>(128009)), "");
  EXPECT_EQ(llama3().piece(static_cast<Token>(128009), true), "<|eot_id|>");
}

TEST(Llama3Tokenizer, TextNeverBecomesASpecialTokenUnlessAsked) {
  PUNA_NEEDS_SHARED(kModel);
  for (const auto& [name, token] : llama3().specials()) {
    for (const Token part : llama3().encode(fmt::format("a{}b", name))) EXPECT_FALSE(llama3().is_special(part)) << name;
    const auto asked = llama3().encode_with_specials(fmt::format("a{}b", name));
    EXPECT_THAT(asked, testing::ElementsAre(static_cast<Token>(64), token, static_cast<Token>(65))) << name;
  }
  // llama-models' test_tokenizer.py, with the special tokens spelt out.
  EXPECT_EQ(ids(llama3().encode_with_specials("<|begin_of_text|>This is a test sentence.<|end_of_text|>")),
            (std::vector<int>{128000, 2028, 374, 264, 1296, 11914, 13, 128001}));
}

TEST(Llama3Tokenizer, DecodesWithAndWithoutSpecials) {
  PUNA_NEEDS_SHARED(kModel);
  const auto tokens = llama3().encode_with_specials("<|begin_of_text|>hi<|eot_id|>");
  EXPECT_EQ(llama3().decode(tokens), "hi");
  EXPECT_EQ(llama3().decode(tokens, true), "<|begin_of_text|>hi<|eot_id|>");
  const std::vector<Token> outside = {static_cast<Token>(128256)};
  try {
    llama3().decode(outside);
    FAIL() << "an id outside the vocabulary was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    EXPECT_THAT(error.what(), testing::HasSubstr("token 128256 is outside the vocabulary, expected 0 to 128255"));
  }
}

TEST(Llama3Tokenizer, AnyBytesDecodeBackToThemselves) {
  PUNA_NEEDS_SHARED(kModel);
  for (std::uint64_t round = 0; round < 500; ++round) {
    std::string bytes;
    const auto length = random_bits(7, round, 0) % 80;
    for (std::uint64_t i = 1; i <= length; ++i) {
      const std::uint64_t bits = random_bits(7, round, i);
      bytes += (bits & 0x300) == 0 ? static_cast<char>('a' + bits % 26) : static_cast<char>(bits);
    }
    EXPECT_EQ(llama3().decode(llama3().encode(bytes)), bytes) << round;
  }
  // A byte that is not UTF-8 is a token of its own and cuts the text: what stands around it is encoded as if alone.
  const auto broken = llama3().encode("hello\xFFworld");
  EXPECT_EQ(broken.size(), 3u);
  EXPECT_EQ(llama3().piece(broken[1]), "\xFF");
}

TEST(Llama3Tokenizer, IsTheSameOutOfJsonAndGguf) {
  PUNA_NEEDS_SHARED(kModel);
  PUNA_NEEDS_SHARED("books");
  const GgufVocabulary vocabulary = export_gguf_vocabulary(llama3(), "llama3");
  EXPECT_EQ(vocabulary.tokens[128009], "<|eot_id|>");
  EXPECT_EQ(vocabulary.merges.size(), 280147u);  // as many as Meta's own tokenizer.json of Llama 3 has
  const auto json = tokenizer_from_json(tokenizer_json_text(vocabulary), "tokenizer.json");
  const auto gguf = tokenizer_from_gguf(vocabulary, "llama3.gguf");
  const std::string text =
      read_text(shared_data("books/de_verwandlung.txt")) + read_text(shared_data("udhr/udhr_tha.txt")) + std::string(3000, '=');
  for (const Tokenizer* other : {json.get(), gguf.get()}) {
    EXPECT_EQ(other->encode(text), llama3().encode(text));
    EXPECT_EQ(other->specials(), llama3().specials());
    EXPECT_EQ(other->end_tokens(), llama3().end_tokens());
    EXPECT_TRUE(other->adds_bos());
  }
}

TEST(Llama3Tokenizer, OneEndlessRunDoesNotHang) {
  PUNA_NEEDS_SHARED(kModel);
  const std::clock_t start = std::clock();  // of the process: other work on the machine does not count
  for (const char* unit : {"a", " ", "\n", "ab", "=", "\xE5\x93\x88", "'", " \n", "\xFF"}) {
    std::string text;
    while (text.size() < (1u << 20)) text += unit;
    EXPECT_EQ(llama3().decode(llama3().encode(text)), text) << unit;
  }
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  EXPECT_LT(seconds, 60) << "linear work takes about two seconds";
}

TEST(Tiktoken, RefusesDamagedFiles) {
  const auto message = [](std::string_view bytes) -> std::string {
    try {
      tokenizer_from_tiktoken(bytes, "tokenizer.model");
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
      return error.what();
    }
    return "accepted";
  };
  EXPECT_THAT(message("IQ== 0\nIg== x\n"), testing::StartsWith("[tokenizer.model] line 2 is not a base64 token and its rank"));
  EXPECT_THAT(message("IQ== 0\n*** 1\n"), testing::HasSubstr("line 2 is not a base64 token"));
  EXPECT_THAT(message("IQ== 0\nIg== 7\n"), testing::HasSubstr("line 2 has rank 7, expected each of 0 to 1 once"));
  EXPECT_THAT(message("IQ== 0\nIg== 0\n"), testing::HasSubstr("rank 0"));
  EXPECT_THAT(message("IQ== 0\nIQ== 1\n"), testing::HasSubstr("line 2 repeats the bytes"));
  EXPECT_THAT(message("IQ== 0\nIg== 1\n"), testing::HasSubstr("no token for the byte 0x00, expected all 256"));
  EXPECT_THAT(message(""), testing::HasSubstr("no token for the byte 0x00"));
}

}  // namespace
}  // namespace puna
