// SPDX-License-Identifier: Apache-2.0
#include "infer/prefix_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "model/tiny_checkpoint.h"

namespace puna {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<Token> pages_of(const std::vector<int>& contents, int rest = 0) {  // each page filled with one token
  std::vector<Token> tokens;
  for (const int content : contents) tokens.insert(tokens.end(), kPagePositions, Token{content});
  tokens.insert(tokens.end(), static_cast<std::size_t>(rest), Token{9});
  return tokens;
}

class PrefixCacheTest : public testing::Test {
 protected:
  // A sequence that held these pages, and is gone.
  void remember(const std::vector<int>& contents) {
    const int sequence = cache_.add_sequence();
    const std::vector<Token> tokens = pages_of(contents);
    const std::span<const std::int32_t> known = prefixes_.find(tokens);
    cache_.begin_with(sequence, known);
    cache_.grow(sequence, static_cast<std::int64_t>(tokens.size()));
    prefixes_.keep(tokens, cache_.pages(sequence));
    cache_.remove_sequence(sequence);
  }
  std::vector<std::int32_t> find(const std::vector<int>& contents, int rest = 0) {
    const auto found = prefixes_.find(pages_of(contents, rest));
    return {found.begin(), found.end()};
  }

  KvCache cache_{tiny_config(), Format::kF16, 6 * kPagePositions};
  PrefixCache prefixes_{cache_};
};

TEST_F(PrefixCacheTest, FindsTheLongestBeginningInWholePages) {
  remember({1, 2, 3});
  remember({1, 2, 4});
  EXPECT_EQ(prefixes_.size(), 4) << "what is alike is there once";
  EXPECT_THAT(find({1, 2, 3}), ElementsAre(0, 1, 2));
  EXPECT_THAT(find({1, 2, 4}, 5), ElementsAre(0, 1, 3));
  EXPECT_THAT(find({1, 2, 5}), ElementsAre(0, 1));
  EXPECT_THAT(find({1}, 63), ElementsAre(0));
  EXPECT_THAT(find({2}), IsEmpty()) << "the same page behind another beginning is another page";
  EXPECT_THAT(find({}, 63), IsEmpty());
}

TEST_F(PrefixCacheTest, GivesBackWhatWasUsedLongestAgoFromTheEnds) {
  remember({1, 2});
  remember({3, 4});
  remember({5});
  EXPECT_EQ(cache_.free_pages(), 1);
  find({1, 2});
  EXPECT_TRUE(prefixes_.make_room(2));
  EXPECT_THAT(find({3, 4}).size(), 1u) << "the older chain loses its end first";
  find({1, 2});
  EXPECT_TRUE(prefixes_.make_room(4));
  EXPECT_THAT(find({3, 4}), IsEmpty());
  EXPECT_THAT(find({5}), IsEmpty());
  EXPECT_THAT(find({1, 2}).size(), 2u);
  EXPECT_TRUE(prefixes_.make_room(6));
  EXPECT_EQ(prefixes_.size(), 0);
}

TEST_F(PrefixCacheTest, KeepsWhatSomebodyReads) {
  remember({1, 2});
  const int reader = cache_.add_sequence();
  cache_.begin_with(reader, prefixes_.find(pages_of({1})));
  EXPECT_EQ(cache_.length(reader), kPagePositions);
  EXPECT_FALSE(prefixes_.make_room(6)) << "the page that is read stays";
  EXPECT_EQ(cache_.free_pages(), 5);
  cache_.remove_sequence(reader);
  EXPECT_TRUE(prefixes_.make_room(6));
}

TEST_F(PrefixCacheTest, UsesFreedPlacesAgain) {
  for (int round = 0; round < 50; ++round) {
    ASSERT_TRUE(prefixes_.make_room(2));
    remember({round, round + 100});
    ASSERT_EQ(find({round, round + 100}).size(), 2u);
  }
  EXPECT_LE(prefixes_.size(), 6);
}

TEST_F(PrefixCacheTest, TreesShareNothing) {
  remember({1, 2});
  const int sequence = cache_.add_sequence();
  const std::vector<Token> tokens = pages_of({1, 2});
  EXPECT_THAT(prefixes_.find(tokens, 1), IsEmpty());
  cache_.grow(sequence, static_cast<std::int64_t>(tokens.size()));
  prefixes_.keep(tokens, cache_.pages(sequence), 1);
  cache_.remove_sequence(sequence);
  EXPECT_EQ(prefixes_.size(), 4);
  EXPECT_THAT(prefixes_.find(tokens, 1), ElementsAre(2, 3));
  EXPECT_THAT(prefixes_.find(tokens, 2), IsEmpty());
  EXPECT_THAT(find({1, 2}), ElementsAre(0, 1));
  EXPECT_TRUE(prefixes_.make_room(6)) << "roots of other trees are no pages";
  EXPECT_EQ(prefixes_.size(), 0);
}

}  // namespace
}  // namespace puna
