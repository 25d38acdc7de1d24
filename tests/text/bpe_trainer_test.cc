// SPDX-License-Identifier: Apache-2.0
// Training a vocabulary: the merges of Hugging Face's own trainer on small corpora and on books, those of a trainer that counts
// everything anew at every step on random ones, and what the resulting tokenizer does to text.
#include "text/bpe_trainer.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/json.h"
#include "base/random.h"
#include "base/sha256.h"
#include "expect_error.h"
#include "shared_data.h"
#include "text/bpe_learner.h"
#include "text/split_pattern.h"
#include "text/tokenizer_export.h"
#include "text/unicode.h"
#include "text/word_stream.h"

namespace puna {
namespace {

BpeTrainerOptions options_for(std::size_t merges, std::uint64_t min_frequency = 1) {
  BpeTrainerOptions options;
  options.specials = {"<|begin_of_text|>", "<|end_of_text|>"};
  options.vocabulary_size = 256 + options.specials.size() + merges;
  options.min_frequency = min_frequency;
  return options;
}

std::unique_ptr<Tokenizer> train(std::string_view text, const BpeTrainerOptions& options) {
  ThreadPool pool(1);
  BpeTrainer trainer(options, pool);
  trainer.add(text);
  return trainer.train();
}

std::vector<std::string> merges_of(const Tokenizer& tokenizer) { return export_gguf_vocabulary(tokenizer, "test").merges; }

// Every line, with its end, as a text of its own.
std::vector<std::string> train_lines(std::string_view text, std::size_t merges, int threads) {
  ThreadPool pool(threads);
  BpeTrainer trainer(options_for(merges), pool);
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size() - 1) + 1;
    trainer.add(text.substr(0, end));
    trainer.end_document();
    text.remove_prefix(end);
  }
  return merges_of(*trainer.train());
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += text.empty() ? line : '\n' + line;
  return text;
}

std::string sha256_of(std::string_view text) {
  Sha256 hash;
  hash.update(std::as_bytes(std::span(text)));
  return hash.finish();
}

Json golden_training() { return parse_json(read_text(golden("text/bpe_training.json")), "bpe_training.json"); }

TEST(BpeTrainer, MergesEqualThoseOfHuggingFacesTrainer) {
  const Json expected = golden_training();
  ASSERT_GE(expected["corpora"].size(), 11u);
  for (const Json& corpus : expected["corpora"]) {
    const auto merges = corpus["merges"].get<std::vector<std::string>>();
    EXPECT_EQ(train_lines(corpus["text"].get<std::string>(), 5000, 1), merges) << corpus["name"];
    EXPECT_EQ(train_lines(corpus["text"].get<std::string>(), 5000, 3), merges) << corpus["name"];
    const std::size_t half = merges.size() / 2;
    const std::vector<std::string> first(merges.begin(), merges.begin() + static_cast<std::ptrdiff_t>(half));
    EXPECT_EQ(train_lines(corpus["text"].get<std::string>(), half, 1), first) << corpus["name"];
  }
}

TEST(BpeTrainer, MergesOfWholeBooksEqualThoseOfHuggingFacesTrainer) {
  PUNA_NEEDS_SHARED("books/en_alice.txt");
  const Json expected = golden_training();
  ASSERT_GE(expected["files"].size(), 5u);
  for (const Json& file : expected["files"]) {
    const auto merges = train_lines(read_text(shared_data(file["file"])), 30000, 2);
    EXPECT_EQ(merges.size(), file["merges"]) << file["file"];
    EXPECT_EQ(sha256_of(joined(merges)), file["sha256"]) << file["file"];
  }
}

// Sentences of algorithm 1 turned into code: all pairs of all pieces are counted anew for every merge.
std::vector<BpeRule> count_anew(std::string_view text, std::size_t merges, std::uint64_t min_frequency) {
  std::map<unsigned char, std::uint32_t> ids;
  for (std::uint32_t id = 0; id < 256; ++id) ids[BpeLearner::byte_of_id()[id]] = id;
  std::vector<std::vector<std::uint32_t>> pieces;
  while (!text.empty()) {
    const std::string_view valid = text.substr(0, valid_utf8_prefix(text));
    split_text(SplitPattern::kLlama3, valid, [&](std::string_view piece) {
      pieces.emplace_back();
      for (const char byte : piece) pieces.back().push_back(ids[static_cast<unsigned char>(byte)]);
    });
    text.remove_prefix(std::min(text.size(), valid.size() + 1));
  }
  std::vector<BpeRule> rules;
  for (std::uint32_t made = 256; rules.size() < merges; ++made) {
    std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint64_t> counts;
    for (const auto& piece : pieces) {
      for (std::size_t i = 0; i + 1 < piece.size(); ++i) ++counts[{piece[i], piece[i + 1]}];
    }
    const auto best =
        std::max_element(counts.begin(), counts.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
    if (best == counts.end() || best->second < min_frequency) break;
    rules.push_back({best->first.first, best->first.second, made});
    for (auto& piece : pieces) {
      std::vector<std::uint32_t> after;
      for (std::size_t i = 0; i < piece.size(); ++i) {
        const bool here = i + 1 < piece.size() && piece[i] == best->first.first && piece[i + 1] == best->first.second;
        after.push_back(here ? made : piece[i]);
        i += here ? 1 : 0;
      }
      piece = std::move(after);
    }
  }
  return rules;
}

std::string written(const std::vector<BpeRule>& rules) {
  std::string text;
  for (const BpeRule& rule : rules) text += fmt::format("{}+{}={} ", rule.left, rule.right, rule.merged);
  return text;
}

// Random text over a few symbols, among them bytes that are no UTF-8.
std::string random_text(std::uint64_t seed, std::size_t symbols) {
  constexpr std::array<std::string_view, 16> kSymbols = {"a",  "b",    "ab",   "aa", " ",      " ",    "é", "\n",
                                                         "'s", "\xFF", "\xC3", "1",  "\u4E2D", "🦙", ".", "B"};
  const std::size_t kinds = 2 + random_bits(seed, 1, 0) % (kSymbols.size() - 1);
  std::string text;
  for (std::size_t i = 0; i < symbols; ++i) text += kSymbols[random_bits(seed, 0, i) % kinds];
  return text;
}

TEST(BpeTrainer, MergesEqualThoseOfCountingAnewOnRandomTexts) {
  for (std::uint64_t seed = 0; seed < 150; ++seed) {
    const std::string text = random_text(seed, 20 + seed * 7);
    const std::uint64_t min_frequency = 1 + seed % 4;
    ShardedWordCounts words;
    ThreadPool pool(1);
    WordStream stream(pool, ~std::uint64_t{0});
    stream.add(text);
    LearnOptions options;
    options.merges = 60;
    options.min_frequency = min_frequency;
    EXPECT_EQ(written(BpeLearner(stream.finish(), options).learn()), written(count_anew(text, 60, min_frequency)))
        << "seed " << seed;
  }
}

TEST(BpeTrainer, DecodeGivesBackWhatWasEncoded) {
  const auto tokenizer = train(random_text(15, 5000), options_for(300));
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    std::string bytes;
    for (std::size_t i = 0; i < 1 + seed * 3; ++i) bytes += static_cast<char>(random_bits(seed, 7, i));
    const std::string text = random_text(seed + 1000, seed * 5);
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(bytes)), bytes);
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
  }
}

TEST(BpeTrainer, IdsAreBytesThenMergesThenSpecials) {
  const auto tokenizer = train("low low low lower lower newest newest newest newest", options_for(4, 2));
  EXPECT_EQ(tokenizer->size(), 262);
  EXPECT_EQ(tokenizer->piece(Token{0}), "!");
  EXPECT_EQ(tokenizer->piece(Token{188}), std::string(1, '\0'));
  EXPECT_EQ(merges_of(*tokenizer), (std::vector<std::string>{"w e", "l o", "e we", "n ewe"}));
  EXPECT_EQ(tokenizer->piece(Token{257}), "lo");
  EXPECT_EQ(tokenizer->bos(), Token{260});
  EXPECT_TRUE(tokenizer->adds_bos());
  EXPECT_EQ(tokenizer->special("<|end_of_text|>"), Token{261});
  EXPECT_EQ(tokenizer->end_tokens(), std::vector<Token>{Token{261}});
}

TEST(BpeTrainer, StopsWhereNoPairIsFrequentEnough) {
  EXPECT_EQ(merges_of(*train("abc abc xyz", options_for(1000, 1))).size(), 6u);
  EXPECT_EQ(merges_of(*train("abc abc xyz", options_for(1000, 2))), (std::vector<std::string>{"a b", "ab c"}));
  EXPECT_EQ(train("abc abc xyz", options_for(1000, 3))->size(), 258);
  EXPECT_EQ(train("", options_for(1000))->size(), 258);
}

TEST(BpeTrainer, BytesThatAreNotUtf8JoinNothing) {
  EXPECT_THAT(merges_of(*train("\xFF\xFF\xFF\xFF \xC3 \xC3 \xC3 \xC3", options_for(100))), testing::IsEmpty());
  EXPECT_EQ(merges_of(*train("ab\x80"
                             "ab\x80",
                             options_for(100))),
            std::vector<std::string>{"a b"});
}

TEST(BpeTrainer, NoMergeSpellsASpecialToken) {
  BpeTrainerOptions options = options_for(100);
  options.specials.push_back("tool");
  options.vocabulary_size += 1;
  const auto tokenizer = train("tool tool tools tooling", options);
  EXPECT_THAT(merges_of(*tokenizer), testing::Contains("o ol"));
  EXPECT_THAT(merges_of(*tokenizer), testing::Not(testing::Contains("t ool")));
  EXPECT_NE(tokenizer->encode("tool"), tokenizer->encode_with_specials("tool"));
  const auto reread = tokenizer_from_json(tokenizer_json_text(export_gguf_vocabulary(*tokenizer, "test")), "test");
  EXPECT_EQ(reread->encode("tool tooling"), tokenizer->encode("tool tooling"));
}

TEST(BpeTrainer, TokenizerJsonReadsBackToTheSameIds) {
  const std::string corpus = random_text(15, 20000);
  BpeTrainerOptions options;
  options.vocabulary_size = 700;
  options.specials = llama31_special_tokens(3);
  const auto tokenizer = train(corpus, options);
  const auto reread = tokenizer_from_json(tokenizer_json_text(export_gguf_vocabulary(*tokenizer, "test")), "test");
  EXPECT_EQ(reread->encode_with_specials(corpus + "<|eot_id|>"), tokenizer->encode_with_specials(corpus + "<|eot_id|>"));
  EXPECT_EQ(reread->size(), tokenizer->size());
  EXPECT_EQ(reread->bos(), tokenizer->bos());
  EXPECT_TRUE(reread->adds_bos());
  EXPECT_EQ(reread->specials(), tokenizer->specials());
  EXPECT_EQ(reread->end_tokens(), tokenizer->end_tokens());
}

TEST(BpeTrainer, SpecialTokensStandInTheOrderOfLlama31) {
  const auto all = llama31_special_tokens(248);
  EXPECT_EQ(all.size(), 256u);
  EXPECT_EQ(all[4], "<|finetune_right_pad_id|>");
  EXPECT_EQ(all[5], "<|reserved_special_token_2|>");
  EXPECT_EQ(all[9], "<|eot_id|>");
  EXPECT_EQ(all[10], "<|python_tag|>");
  EXPECT_EQ(all[255], "<|reserved_special_token_247|>");
  EXPECT_EQ(llama31_special_tokens(0).size(), 8u);
  expect_error(ErrorKind::kUsage, "249 reserved tokens, expected 0 to 248", [] { llama31_special_tokens(249); });
}

TEST(BpeTrainer, RefusesOptionsThatCannotBe) {
  ThreadPool pool(1);
  const auto trying = [&](std::size_t size, std::vector<std::string> specials) {
    return [&pool, size, specials] {
      BpeTrainerOptions options;
      options.vocabulary_size = size;
      options.specials = specials;
      BpeTrainer(options, pool);
    };
  };
  expect_error(ErrorKind::kUsage, "a vocabulary of 257 tokens, expected 258 (256 bytes and 2 special tokens)",
               trying(257, {"<a>", "<b>"}));
  expect_error(ErrorKind::kUsage, "a vocabulary of 2000000 tokens", trying(2000000, {}));
  expect_error(ErrorKind::kUsage, "the special token <a> is given twice", trying(300, {"<a>", "<a>"}));
  expect_error(ErrorKind::kUsage, "is empty or not UTF-8", trying(300, {""}));
  expect_error(ErrorKind::kUsage, "\"x\" is the name of a byte", trying(300, {"x"}));
  EXPECT_NO_THROW(trying(256, {})());
}

TEST(BpeTrainer, TellsHowFarItIs) {
  BpeTrainerOptions options = options_for(130);
  std::vector<std::size_t> seen;
  options.progress = [&](std::size_t made, std::size_t wanted) {
    EXPECT_EQ(wanted, 130u);
    seen.push_back(made);
  };
  train(random_text(15, 5000), options);
  EXPECT_EQ(seen, (std::vector<std::size_t>{64, 128, 130}));
}

}  // namespace
}  // namespace puna
