// SPDX-License-Identifier: Apache-2.0
// tokenizer.json against Hugging Face's own implementation (tools/golden/make_tokenizer_json.mjs), the same vocabulary out of GGUF,
// and the refusal of every file that would give other ids.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <sstream>

#include "base/error.h"
#include "base/json.h"
#include "shared_data.h"
#include "text/tokenizer.h"

namespace puna {
namespace {

std::vector<int> json_ids(const std::vector<Token>& tokens) {
  std::vector<int> numbers;
  for (const Token token : tokens) numbers.push_back(id(token));
  return numbers;
}

Json file_json(const std::string& name) { return parse_json(read_text(golden("text/tokenizer_" + name + ".json")), name); }

std::unique_ptr<Tokenizer> load(const std::string& name) { return load_tokenizer_file(golden("text/tokenizer_" + name + ".json")); }

TEST(TokenizerJson, GivesHuggingFacesIds) {
  std::istringstream lines(read_text(golden("text/tokenizer_json.jsonl")));
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const Json entry = parse_json(line, "tokenizer_json.jsonl");
    const auto tokenizer = load(entry["file"].get<std::string>());
    const auto text = entry["text"].get<std::string>();
    EXPECT_EQ(json_ids(tokenizer->encode(text)), entry["ids"].get<std::vector<int>>()) << entry["file"] << entry["text"];
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
  }
  EXPECT_EQ(count, 28);
}

TEST(TokenizerJson, KnowsSpecialAndAddedTokens) {
  const auto tokenizer = load("llama3");
  const auto begin = tokenizer->special("<|begin_of_text|>"), end = tokenizer->special("<|eot_id|>");
  ASSERT_TRUE(begin && end);
  EXPECT_EQ(tokenizer->size(), id(*begin) + 4);
  EXPECT_EQ(tokenizer->bos(), begin);
  EXPECT_TRUE(tokenizer->adds_bos());
  EXPECT_EQ(tokenizer->end_tokens(), std::vector<Token>{*end});
  EXPECT_EQ(tokenizer->special("<|tool|>"), std::nullopt);                                // added, but not special:
  EXPECT_EQ(json_ids(tokenizer->encode("<|tool|>")), std::vector<int>{id(*begin) + 2});   // ordinary text becomes it,
  EXPECT_EQ(json_ids(tokenizer->encode("<|tool|>!")), std::vector<int>{id(*begin) + 3});  // the longest name wins,
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("<|tool|>")), "<|tool|>");                // and it is shown
  EXPECT_EQ(json_ids(tokenizer->encode_with_specials("<|eot_id|><|tool|>")), (std::vector<int>{id(*end), id(*begin) + 2}));
  for (const Token token : tokenizer->encode("<|eot_id|>")) EXPECT_NE(token, *end);
  EXPECT_FALSE(load("gpt2")->adds_bos());
  EXPECT_EQ(load("gpt2")->bos(), std::nullopt);
}

// The vocabulary of a tokenizer.json as a converter writes it into GGUF.
GgufVocabulary as_gguf(const Json& file, const std::string& pre) {
  GgufVocabulary vocabulary;
  vocabulary.model = "gpt2";
  vocabulary.pre = pre;
  const Json& vocab = file["model"]["vocab"];
  vocabulary.tokens.resize(vocab.size() + file["added_tokens"].size());
  vocabulary.types.assign(vocabulary.tokens.size(), 1);
  for (const auto& [text, number] : vocab.items()) vocabulary.tokens[number.get<std::size_t>()] = text;
  for (const Json& added : file["added_tokens"]) {
    vocabulary.tokens[added["id"].get<std::size_t>()] = added["content"].get<std::string>();
    vocabulary.types[added["id"].get<std::size_t>()] = added["special"].get<bool>() ? 3 : 4;
  }
  for (const Json& merge : file["model"]["merges"]) {
    vocabulary.merges.push_back(merge.is_string() ? merge.get<std::string>()
                                                  : merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  }
  return vocabulary;
}

TEST(TokenizerGguf, GivesTheSameIdsAsTheJson) {
  std::istringstream lines(read_text(golden("text/tokenizer_json.jsonl")));
  const auto llama3 = tokenizer_from_gguf(as_gguf(file_json("llama3"), "llama-bpe"), "llama3.gguf");
  const auto gpt2 = tokenizer_from_gguf(as_gguf(file_json("gpt2"), "gpt-2"), "gpt2.gguf");
  for (std::string line; std::getline(lines, line);) {
    const Json entry = parse_json(line, "tokenizer_json.jsonl");
    const Tokenizer& tokenizer = entry["file"] == "llama3" ? *llama3 : *gpt2;
    EXPECT_EQ(json_ids(tokenizer.encode(entry["text"].get<std::string>())), entry["ids"].get<std::vector<int>>()) << entry["text"];
  }
  EXPECT_TRUE(llama3->adds_bos());
  EXPECT_FALSE(gpt2->adds_bos());
  EXPECT_EQ(llama3->end_tokens(), std::vector<Token>{*llama3->special("<|eot_id|>")});
}

std::string refusal(const std::function<void()>& load, ErrorKind kind) {
  try {
    load();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    return error.what();
  }
  return "accepted";
}

std::string gguf_refusal(const std::function<void(GgufVocabulary&)>& change, ErrorKind kind = ErrorKind::kBadInput) {
  GgufVocabulary vocabulary = as_gguf(file_json("llama3"), "llama-bpe");
  change(vocabulary);
  return refusal([&] { tokenizer_from_gguf(vocabulary, "m.gguf"); }, kind);
}

TEST(TokenizerGguf, RefusesWhatItCannotRead) {
  EXPECT_THAT(gguf_refusal([](auto& v) { v.pre = "qwen2"; }, ErrorKind::kUnsupported),
              testing::StartsWith("[m.gguf] tokenizer.ggml.pre is \"qwen2\", expected"));
  EXPECT_THAT(gguf_refusal([](auto& v) { v.types.pop_back(); }), testing::HasSubstr("tokenizer.ggml.token_type has"));
  EXPECT_THAT(gguf_refusal([](auto& v) { v.merges[3] = "nospace"; }),
              testing::HasSubstr("merge 3 is \"nospace\", expected two tokens"));
  EXPECT_THAT(gguf_refusal([](auto& v) { v.merges[3] = "q qqq"; }), testing::HasSubstr("merge 3 joins \"q\" and \"qqq\""));
  EXPECT_THAT(gguf_refusal([](auto& v) { v.tokens[300] = "\xE4\xB8\xAD"; }),
              testing::HasSubstr("token 300 is not written in the byte-level alphabet"));
  EXPECT_THAT(gguf_refusal([](auto& v) { v.tokens[300] = v.tokens[299]; }),
              testing::HasSubstr("token 300 has the text of an earlier token"));
  EXPECT_THAT(gguf_refusal([](auto& v) { v.bos = -1; }), testing::HasSubstr("tokenizer.ggml.bos_token_id is -1, outside"));
  EXPECT_THAT(gguf_refusal([](auto& v) { v.tokens.clear(); }), testing::HasSubstr("tokenizer.ggml.tokens is empty"));
}

std::string json_refusal(const std::function<void(Json&)>& change, ErrorKind kind) {
  Json file = file_json("llama3");
  change(file);
  return refusal([&] { tokenizer_from_json(file.dump(), "tokenizer.json"); }, kind);
}

TEST(TokenizerJson, RefusesWhatWouldGiveOtherIds) {
  const auto kind = ErrorKind::kUnsupported;
  EXPECT_THAT(json_refusal(
                  [](Json& f) {
                    f["normalizer"] = {{"type", "NFC"}};
                  },
                  kind),
              testing::StartsWith("[tokenizer.json] the normalizer {\"type\":\"NFC\"} is not supported"));
  EXPECT_THAT(json_refusal(
                  [](Json& f) {
                    f["pre_tokenizer"] = {{"type", "Whitespace"}};
                  },
                  kind),
              testing::HasSubstr("the pre_tokenizer {\"type\":\"Whitespace\"} is not supported"));
  EXPECT_THAT(json_refusal([](Json& f) { f["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "\\p{N}"; }, kind),
              testing::HasSubstr("is not supported, only those of Llama 3 and GPT-2"));
  EXPECT_THAT(json_refusal([](Json& f) { f["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = true; }, kind),
              testing::HasSubstr("the pre_tokenizer"));
  EXPECT_THAT(json_refusal([](Json& f) { f["model"]["type"] = "Unigram"; }, kind),
              testing::HasSubstr("a tokenizer of type \"Unigram\", expected BPE"));
  EXPECT_THAT(json_refusal([](Json& f) { f["model"]["byte_fallback"] = true; }, kind),
              testing::HasSubstr("use the tokenizer.model beside it"));
  EXPECT_THAT(json_refusal([](Json& f) { f["model"]["dropout"] = 0.1; }, kind), testing::HasSubstr("the BPE option dropout = 0.1"));
  EXPECT_THAT(json_refusal([](Json& f) { f["added_tokens"][0]["lstrip"] = true; }, kind), testing::HasSubstr("has lstrip set"));
}

TEST(TokenizerJson, RefusesDamagedFiles) {
  const auto kind = ErrorKind::kBadInput;
  EXPECT_THAT(json_refusal([](Json& f) { f.erase("model"); }, kind), testing::HasSubstr("the key \"model\" is missing"));
  EXPECT_THAT(json_refusal([](Json& f) { f["model"].erase("merges"); }, kind), testing::HasSubstr("no \"vocab\" or no \"merges\""));
  EXPECT_THAT(json_refusal([](Json& f) { f["model"]["vocab"]["new"] = -1; }, kind),
              testing::HasSubstr("the token \"new\" has the id -1, out of range"));
  EXPECT_THAT(json_refusal([](Json& f) { f["model"]["vocab"]["new"] = 900000; }, kind),
              testing::HasSubstr("out of range"));  // above the file's size
  EXPECT_THAT(json_refusal([](Json& f) { f["model"]["vocab"]["new"] = 65; }, kind), testing::HasSubstr("the id 65 belongs to"));
  EXPECT_THAT(json_refusal([](Json& f) { f["model"]["vocab"]["new"] = "x"; }, kind),
              testing::HasSubstr("the token \"new\" has no whole number"));
  EXPECT_THAT(json_refusal([](Json& f) { f["model"]["merges"][2] = {"a"}; }, kind),
              testing::HasSubstr("merge 2 is not two tokens"));
  EXPECT_THAT(json_refusal(
                  [](Json& f) {
                    f["model"]["merges"][2] = {"qq", "q"};
                  },
                  kind),
              testing::HasSubstr("merge 2 joins \"qq\" and \"q\""));
  EXPECT_THAT(json_refusal([](Json& f) { f["added_tokens"] = 3; }, kind),
              testing::HasSubstr("\"added_tokens\" is number, expected an array"));
  const std::string whole = read_text(golden("text/tokenizer_llama3.json"));
  for (std::size_t size = 1; size < whole.size(); size += 97) {
    EXPECT_THAT(refusal([&] { tokenizer_from_json(std::string_view(whole).substr(0, size), "cut"); }, kind),
                testing::HasSubstr("not valid JSON at byte"));
  }
}

}  // namespace
}  // namespace puna
