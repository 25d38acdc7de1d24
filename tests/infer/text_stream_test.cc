// SPDX-License-Identifier: Apache-2.0
// Stop strings and UTF-8 over every way to cut a text into tokens: what comes out must not depend on the cuts.
#include "infer/text_stream.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace puna {
namespace {

struct Streamed {
  std::string text;
  bool stopped;
};

bool ends_on_a_character(std::string_view text) { return incomplete_utf8(text) == 0; }

// Pushes `text` cut at the bits of `cuts`; checks what every piece has to fulfil.
Streamed stream(const std::string& text, const std::vector<std::string>& stop, unsigned cuts) {
  TextStream out(stop);
  Streamed result{"", false};
  std::string piece;
  for (std::size_t i = 0; i < text.size(); ++i) {
    piece += text[i];
    if ((cuts >> i & 1) == 0 && i + 1 < text.size()) continue;
    const std::string_view ready = out.push(piece);
    EXPECT_TRUE(ends_on_a_character(ready)) << ready;
    result.text += ready;
    piece.clear();
  }
  result.text += out.finish();
  result.stopped = out.stopped();
  return result;
}

void expect_for_all_cuts(const std::string& text, const std::vector<std::string>& stop, const std::string& expected, bool stopped) {
  ASSERT_LE(text.size(), 14u);
  for (unsigned cuts = 0; cuts < 1u << (text.size() - 1); ++cuts) {
    const Streamed result = stream(text, stop, cuts);
    ASSERT_EQ(result.text, expected) << "cuts " << cuts;
    ASSERT_EQ(result.stopped, stopped) << "cuts " << cuts;
  }
}

TEST(TextStream, PassesTextThrough) { expect_for_all_cuts("hello world", {}, "hello world", false); }

TEST(TextStream, StopsAcrossAllCuts) {
  expect_for_all_cuts("one two three", {"two"}, "one ", true);
  expect_for_all_cuts("aaab", {"aab"}, "a", true);  // the beginning of a match inside a match
  expect_for_all_cuts("abcabd end", {"abd"}, "abc", true);
  expect_for_all_cuts("User: hi", {"User:"}, "", true);
}

TEST(TextStream, GivesBackWhatOnlyLookedLikeAStop) {
  expect_for_all_cuts("one tw", {"two"}, "one tw", false);
  expect_for_all_cuts("ababac", {"abab!"}, "ababac", false);
}

TEST(TextStream, TheStopThatEndsFirstWinsThenTheLongest) {
  expect_for_all_cuts("x abcd", {"bcd", "abc"}, "x ", true);  // abc ends before bcd
  expect_for_all_cuts("x abc", {"c", "abc"}, "x ", true);     // both end at c: the longer one
  expect_for_all_cuts("x abc", {"b", "abc"}, "x a", true);
}

TEST(TextStream, KeepsCharactersWhole) {
  expect_for_all_cuts("a\xc3\xa9\xe2\x82\xac\xf0\x9f\xa6\x99z", {}, "a\xc3\xa9\xe2\x82\xac\xf0\x9f\xa6\x99z", false);
  expect_for_all_cuts("\xf0\x9f\xa6\x99\xe2\x82\xac!", {"\xe2\x82\xac"}, "\xf0\x9f\xa6\x99", true);
}

TEST(TextStream, LeavesOutACharacterThatNeverEnds) {
  expect_for_all_cuts("ab\xf0\x9f\xa6", {}, "ab", false);
  expect_for_all_cuts(
      "ab\xe2\x82"
      "X",
      {"X"}, "ab", true);  // cut off by the stop string
}

TEST(TextStream, NamesTheStopItFound) {
  TextStream out({"c", "abc", "d"});
  EXPECT_EQ(out.found(), "");
  out.push("x abcd");
  EXPECT_EQ(out.found(), "abc");
}

TEST(TextStream, PassesInvalidBytesOn) {
  expect_for_all_cuts("a\xff\x80z", {}, "a\xff\x80z", false);
  expect_for_all_cuts("\x80\x80\x80\x80", {}, "\x80\x80\x80\x80", false);
}

TEST(TextStream, NothingComesAfterAStop) {
  TextStream out({"."});
  EXPECT_EQ(out.push("one. two"), "one");
  EXPECT_TRUE(out.stopped());
  EXPECT_EQ(out.found(), ".");
  EXPECT_EQ(out.push("three"), "");
  EXPECT_EQ(out.finish(), "");
}

TEST(TextStream, ShowsTextAtOnceWhereNoStopCanBegin) {
  TextStream out({"\n\nUser"});
  EXPECT_EQ(out.push("hello "), "hello ");
  EXPECT_EQ(out.push("you\n"), "you");
  EXPECT_EQ(out.push("\n"), "");
  EXPECT_EQ(out.push("\n"), "\n");
  EXPECT_EQ(out.push("no"), "\n\nno");
}

TEST(TextStream, CountsIncompleteBytes) {
  EXPECT_EQ(incomplete_utf8(""), 0u);
  EXPECT_EQ(incomplete_utf8("a"), 0u);
  EXPECT_EQ(incomplete_utf8("a\xc3"), 1u);
  EXPECT_EQ(incomplete_utf8("a\xe2\x82"), 2u);
  EXPECT_EQ(incomplete_utf8("a\xf0\x9f\xa6"), 3u);
  EXPECT_EQ(incomplete_utf8("a\xf0\x9f\xa6\x99"), 0u);
  EXPECT_EQ(incomplete_utf8("\xc0"), 0u);  // no character starts with it
  EXPECT_EQ(incomplete_utf8("\xf8"), 0u);
}

TEST(TextStream, RefusesAnEmptyStop) {
  try {
    TextStream out({"a", ""});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    EXPECT_STREQ(error.what(), "[stop] a stop string is empty: give at least one character");
  }
}

}  // namespace
}  // namespace puna
