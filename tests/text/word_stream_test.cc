// SPDX-License-Identifier: Apache-2.0
// Words counted from a stream are those of the text as a whole, however it arrives and however many threads count.
#include "text/word_stream.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <string_view>

#include "base/random.h"
#include "shared_data.h"
#include "text/split_pattern.h"
#include "text/unicode.h"

namespace puna {
namespace {

using Counts = std::map<std::string, std::uint64_t>;

constexpr std::uint64_t kUnlimited = ~std::uint64_t{0};

Counts listed(const ShardedWordCounts& words) {
  Counts counts;
  words.visit(
      [&](std::string_view word, std::uint64_t count) { EXPECT_TRUE(counts.emplace(word, count).second) << "twice: " << word; });
  EXPECT_EQ(counts.size(), words.size());
  return counts;
}

Counts counted_whole(std::string_view text) {
  Counts counts;
  while (!text.empty()) {
    const std::string_view valid = text.substr(0, valid_utf8_prefix(text));
    split_text(SplitPattern::kLlama3, valid, [&](std::string_view piece) {
      if (piece.size() > 1) ++counts[std::string(piece)];
    });
    text.remove_prefix(std::min(text.size(), valid.size() + 1));
  }
  return counts;
}

// `part` bytes at a time.
Counts streamed(std::string_view text, std::size_t part, int threads, std::uint64_t memory = kUnlimited) {
  ThreadPool pool(threads);
  WordStream stream(pool, memory);
  for (std::size_t at = 0; at < text.size(); at += part) stream.add(text.substr(at, part));
  EXPECT_EQ(stream.bytes(), text.size());
  return listed(stream.finish());
}

std::string mixed_text(std::size_t size, std::uint64_t seed) {
  constexpr std::array<std::string_view, 20> kSymbols = {"a",      "bc",     "LLama",   " ",    "  ",   "\n",        "\r\n",
                                                         "é",      "'ll",    "'\u017F", "\xFF", "\xE4", "12",        "٣",
                                                         "\u4E2D", "\u0301", "\u3000",  "...",  "🦙", "longerword"};
  std::string text;
  for (std::size_t i = 0; text.size() < size; ++i) text += kSymbols[random_bits(seed, 0, i) % kSymbols.size()];
  return text;
}

TEST(WordStream, EqualsTheWholeTextForEveryThreadCountAndPartSize) {
  const std::string text = mixed_text(WordStream::kChunk * 19, 1);  // more than a round
  const Counts expected = counted_whole(text);
  EXPECT_EQ(streamed(text, text.size(), 1), expected);
  EXPECT_EQ(streamed(text, text.size(), 3), expected);
  EXPECT_EQ(streamed(text, 65537, 2), expected);
  EXPECT_EQ(streamed(text.substr(0, 1500000), 1, 1), counted_whole(std::string_view(text).substr(0, 1500000)));
}

TEST(WordStream, EveryCutLeavesThePiecesAsTheyAre) {
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    const std::string text = mixed_text(60, seed + 10);
    const std::string_view window = std::string_view(text).substr(0, 40);
    const std::size_t cut = WordStream::cut(window);
    ASSERT_GT(cut, 0u);
    ASSERT_LE(cut, window.size());
    Counts parts = counted_whole(std::string_view(text).substr(0, cut));
    for (const auto& [word, count] : counted_whole(std::string_view(text).substr(cut))) parts[word] += count;
    EXPECT_EQ(parts, counted_whole(text)) << "seed " << seed << ", cut at " << cut << ": " << text;
  }
}

TEST(WordStream, CutsARunWithoutABorderBetweenCharacters) {
  EXPECT_EQ(WordStream::cut("abcdef"), 6u);
  EXPECT_EQ(WordStream::cut("......"), 6u);
  EXPECT_EQ(WordStream::cut("\u4E2D\u4E2D\xE4\xB8"), 6u);
  EXPECT_EQ(WordStream::cut("\xF0\x9F\xA6"), 3u);
  EXPECT_EQ(WordStream::cut("\x80\x80\x80\x80\x80\x80"), 6u);
  EXPECT_EQ(WordStream::cut("ab cd"), 2u);
  EXPECT_EQ(WordStream::cut("ab \xFF  "), 4u);
  const std::string run(WordStream::kChunk + 10, 'x');
  EXPECT_EQ(streamed(run, run.size(), 1), (Counts{{run.substr(10), 1}, {"xxxxxxxxxx", 1}}));
  EXPECT_EQ(streamed(run, 999, 2), (Counts{{run.substr(10), 1}, {"xxxxxxxxxx", 1}}));
}

TEST(WordStream, NoWordReachesOverTheEndOfADocument) {
  ThreadPool pool(1);
  WordStream stream(pool, kUnlimited);
  stream.add("the lla");
  stream.add("ma");
  stream.end_document();
  stream.add("the lla");
  stream.end_document();
  stream.add("ma");
  EXPECT_EQ(stream.bytes(), 18u);
  EXPECT_EQ(listed(stream.finish()), (Counts{{"the", 2}, {" llama", 1}, {" lla", 1}, {"ma", 1}}));
}

TEST(WordStream, ForgetsTheRarestWordsWhereMemoryEnds) {
  std::string text;
  for (int i = 0; i < 3000; ++i)
    text += fmt::format(" often once{}x", std::string(1 + static_cast<std::size_t>(i % 17), static_cast<char>('a' + i % 26)));
  for (int i = 0; i < 500; ++i)
    text += fmt::format(" rare{}{}", std::string(static_cast<std::size_t>(i / 26), 'q'), static_cast<char>('a' + i % 26));
  const Counts all = streamed(text, text.size(), 1);
  std::uint64_t cost = 0;
  for (const auto& [word, count] : all) cost += word_cost(1, word.size());
  const Counts kept = streamed(text, text.size(), 1, cost - 1);
  EXPECT_EQ(kept, streamed(text, 100, 3, cost - 1));
  EXPECT_EQ(streamed(text, text.size(), 1, cost), all);
  EXPECT_LT(kept.size(), all.size());
  EXPECT_EQ(kept.at(" often"), 3000u);
  for (const auto& [word, count] : kept) EXPECT_GT(count, 1u) << word;
  ThreadPool pool(1);
  WordStream stream(pool, 0);
  stream.add(text);
  EXPECT_EQ(stream.finish().size(), 0u);
  EXPECT_EQ(stream.forgotten_words(), all.size());
}

TEST(WordCounts, TellsWordsOfEveryLengthApart) {
  WordCounts words;
  std::string text;
  Counts expected;
  for (std::size_t size = 1; size < 300; ++size) {
    text.assign(size, 'x');
    for (const char last : {'x', 'y', '\0'}) {
      text.back() = last;
      words.add(text, size);
      words.add(text, 1);
      expected[text] = size + 1;
    }
  }
  Counts found;
  words.visit([&](std::string_view word, std::uint64_t count) { found[std::string(word)] += count; });
  EXPECT_EQ(found, expected);
  EXPECT_EQ(words.size(), expected.size());
  words.drop_below(200);
  EXPECT_EQ(words.size(), 3u * 101);
  words.clear();
  EXPECT_EQ(words.size(), 0u);
  EXPECT_EQ(words.bytes(), 0u);
}

}  // namespace
}  // namespace puna
