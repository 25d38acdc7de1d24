// SPDX-License-Identifier: Apache-2.0
#include "base/nearest.h"

#include <gtest/gtest.h>

#include <vector>

namespace puna {
namespace {

TEST(Nearest, CountsTypingErrors) {
  EXPECT_EQ(typing_errors("", ""), 0U);
  EXPECT_EQ(typing_errors("abc", ""), 3U);
  EXPECT_EQ(typing_errors("kitten", "sitting"), 3U);
  EXPECT_EQ(typing_errors("pull", "plul"), 1U) << "two swapped letters are one error";
  EXPECT_EQ(typing_errors("ca", "abc"), 3U) << "restricted: a swapped pair is not edited again";
}

TEST(Nearest, FindsWhatWasMeant) {
  const std::vector<std::string> verbs = {"run", "tokenize", "score", "quantize", "list"};
  EXPECT_EQ(nearest("tokenise", verbs), "tokenize");
  EXPECT_EQ(nearest("lsit", verbs), "list");
  EXPECT_EQ(nearest("quant", verbs), "quantize") << "a beginning";
  EXPECT_EQ(nearest("frobnicate", verbs), std::nullopt);
  EXPECT_EQ(nearest("xy", verbs), std::nullopt) << "two errors in a word of two letters are another word";
  EXPECT_EQ(nearest(std::string(100000, 'x'), verbs), std::nullopt);
  EXPECT_EQ(did_you_mean("scor", verbs), ": did you mean score?");
  EXPECT_EQ(did_you_mean("", verbs), "");
}

}  // namespace
}  // namespace puna
