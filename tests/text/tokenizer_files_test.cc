// SPDX-License-Identifier: Apache-2.0
// The tokenizer of a checkpoint folder, and what the files beside it say of beginnings and ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "shared_data.h"
#include "text/tokenizer.h"

namespace puna {
namespace {

class Folder : public testing::Test {
 protected:
  void SetUp() override {
    path_ = std::filesystem::temp_directory_path() / ("puna_tokenizer_" + std::to_string(getpid()));
    std::filesystem::create_directories(path_);
  }
  void TearDown() override { std::filesystem::remove_all(path_); }
  void write(const std::string& name, const std::string& bytes) { std::ofstream(path_ / name, std::ios::binary) << bytes; }
  void write_llama3() { write("tokenizer.json", read_text(golden("text/tokenizer_llama3.json"))); }
  std::string refusal(ErrorKind kind) {
    try {
      load_tokenizer_folder(path_);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), kind) << error.what();
      return error.what();
    }
    return "accepted";
  }

  std::filesystem::path path_;
};

std::vector<int> file_ids(const std::vector<Token>& tokens) {
  std::vector<int> numbers;
  for (const Token token : tokens) numbers.push_back(id(token));
  return numbers;
}

TEST_F(Folder, WithoutATokenizerGivesNothing) { EXPECT_EQ(load_tokenizer_folder(path_), nullptr); }

TEST_F(Folder, TakesEndsFromEveryFileThatKnowsOne) {
  write_llama3();
  const int eot = id(*load_tokenizer_folder(path_)->special("<|eot_id|>"));
  write("config.json", R"({"bos_token_id": 5, "eos_token_id": 7})");
  write("generation_config.json", R"({"eos_token_id": [8, 7], "bos_token_id": null})");
  const auto tokenizer = load_tokenizer_folder(path_);
  EXPECT_EQ(tokenizer->bos(), static_cast<Token>(5));
  EXPECT_EQ(file_ids(tokenizer->end_tokens()), (std::vector<int>{7, 8, eot}));
}

TEST_F(Folder, TokenizerConfigNamesTokensAsStringOrObject) {
  write_llama3();
  const auto eot = load_tokenizer_folder(path_)->special("<|eot_id|>");
  write("tokenizer_config.json",
        R"({"bos_token": {"content": "<|eot_id|>", "lstrip": false}, "eos_token": "<|begin_of_text|>", "add_bos_token": false})");
  const auto tokenizer = load_tokenizer_folder(path_);
  EXPECT_EQ(tokenizer->bos(), eot);
  EXPECT_FALSE(tokenizer->adds_bos());
  EXPECT_THAT(tokenizer->end_tokens(), testing::Contains(*tokenizer->special("<|begin_of_text|>")));
}

TEST_F(Folder, RefusesIdsOfAnotherModel) {
  write_llama3();
  write("config.json", R"({"eos_token_id": 128009})");
  EXPECT_THAT(refusal(ErrorKind::kBadInput),
              testing::StartsWith("[config.json] eos_token_id is 128009, outside the vocabulary of"));
  write("config.json", R"({"bos_token_id": "one"})");
  EXPECT_THAT(refusal(ErrorKind::kBadInput), testing::HasSubstr("bos_token_id holds string, expected a token id"));
  write("config.json", "[]");
  EXPECT_THAT(refusal(ErrorKind::kBadInput), testing::HasSubstr("[config.json] holds array, expected an object"));
}

TEST_F(Folder, FallsBackToTheModelWhereTheJsonIsSentencePieceRewritten) {
  PUNA_NEEDS_SHARED("stories260K/tok512.model");
  write("tokenizer.json", R"({"model": {"type": "BPE", "byte_fallback": true, "vocab": {}, "merges": []}})");
  EXPECT_THAT(refusal(ErrorKind::kUnsupported), testing::HasSubstr("use the tokenizer.model beside it"));
  write("tokenizer.model", read_text(shared_data("stories260K/tok512.model")));
  EXPECT_EQ(load_tokenizer_folder(path_)->kind(), "SentencePiece");
  write("tokenizer.json", "{");  // damage is not passed over
  EXPECT_THAT(refusal(ErrorKind::kBadInput), testing::HasSubstr("not valid JSON"));
}

TEST_F(Folder, RecognisesAMetaFolder) {
  PUNA_NEEDS_SHARED("llama3_tokenizer/tokenizer.model");
  std::filesystem::create_symlink(shared_data("llama3_tokenizer/tokenizer.model"), path_ / "tokenizer.model");
  EXPECT_EQ(load_tokenizer_folder(path_)->size(), 128256);
}

TEST_F(Folder, SaysWhatAFileIsNot) {
  write("tokenizer.model", "");
  EXPECT_THAT(refusal(ErrorKind::kBadInput), testing::HasSubstr("the file is empty"));
  write("tokenizer.model", "just some text");
  EXPECT_THAT(refusal(ErrorKind::kBadInput), testing::HasSubstr("not a SentencePiece model"));
}

}  // namespace
}  // namespace puna
