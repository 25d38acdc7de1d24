// SPDX-License-Identifier: Apache-2.0
// Regular expressions against PCRE2: which texts match, and which may still become one that does.
#include "grammar/regex.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/random.h"
#include "grammar/char_automaton.h"
#include "grammar/grammar_walk.h"
#include "grammar/pcre.h"

namespace puna {
namespace {

const std::vector<std::string> kLetters = {"a",  "b",  "c", "x",  "0", "7",  "-",  "_", " ",
                                           "\n", "\t", "é", "中", "😀", "\"", "\\", "A", "."};

std::string random_text(std::uint64_t stream, std::uint64_t index, std::size_t letters = kLetters.size()) {
  std::string text;
  const std::uint64_t length = random_bits(5, stream, 100 * index) % 9;
  for (std::uint64_t i = 1; i <= length; ++i) text += kLetters[random_bits(5, stream, 100 * index + i) % letters];
  return text;
}

struct Pattern {
  const char* pattern;
  std::vector<std::string> texts;  // beside the random ones
};

const std::vector<Pattern>& patterns() {
  static const std::vector<Pattern> all = {
      {"", {"", "a"}},
      {"abc", {"abc", "ab", "abcd"}},
      {"a|b|", {"a", "b", "", "ab"}},
      {"(ab|a)(c|bc)", {"abc", "ac", "abbc"}},
      {"a*", {"aaaa"}},
      {"a+b?", {"a", "aab", "b"}},
      {"(?:a|bc){2,3}", {"aa", "bcbcbc", "abca", "aaaa"}},
      {"a{3}", {"aaa", "aa", "aaaa"}},
      {"a{2,}", {"a", "aa", "aaaaa"}},
      {"(a?){3}b", {"b", "aab", "aaaab"}},
      {"(a*)*", {"", "aaa"}},
      {"(a|b)*abb", {"abb", "aabb", "ababb", "abab"}},
      {"[a-cx]*", {"abcx", "d"}},
      {"[^a-c]", {"x", "é", "😀", "a", "\n"}},
      {"[-a]+", {"-a-"}},
      {"[a-]+", {"-a-"}},
      {"\\d{1,2}\\D", {"07a", "7-", "077"}},
      {"\\w+\\W?", {"aZ_0", "a-", "é"}},
      {"\\s*\\S", {" a", "\t\n7"}},
      {".", {"a", "\n", "é", "😀"}},
      {".{2}", {"é中", "ab"}},
      {"\\u00e9|\\u4e2d", {"é", "中"}},
      {"\\x61\\t", {"a\t"}},
      {"\\.\\-\\\\\\/", {".-\\/"}},
      {"a\\{2}", {"a{2}"}},
      {"a{,2}", {"a{,2}", "aa"}},
      {"}]", {"}]"}},
      {"(?<year>\\d{4})-x", {"1984-x"}},
      {"a*?b+?c??", {"aabc", "b"}},
      {"^abc$", {"abc"}},
      {"^a|b$", {"a", "b", "ab"}},
      {"(^a|b)c", {"ac", "bc"}},
      {"(a|^)b(c|$)", {"abc", "b", "bc", "ab"}},
      {"(?:a$)?", {"", "a"}},
      {"^(^a$)$", {"a"}},
      {"\\p{L}+\\p{Nd}?", {"aé中", "a7", "7"}},
      {"\\P{L}", {"7", "a"}},
      {"[\\p{L}_]{2}", {"a_", "é中"}},
      {"[\\s\\S]{0,4}", {"", "a\nb", "abcde"}},
      {"(?:(?:a{1,2}b){1,2}c){1,2}", {"abc", "aababcabc", "abcabcabc"}},
      {"😀+[中-仁]", {"😀😀中"}},
  };
  return all;
}

TEST(Regex, MatchesWholeTextsAsPcreDoes) {
  int matched = 0, viable = 0, compared = 0;
  for (std::size_t p = 0; p < patterns().size(); ++p) {
    const auto& [pattern, given] = patterns()[p];
    GrammarWalk walk(regex_grammar(pattern, "pattern"));
    Pcre judge(whole(pattern));
    std::vector<std::string> texts = given;
    for (std::uint64_t i = 0; i < 150; ++i) texts.push_back(random_text(p, i, i % 2 == 0 ? kLetters.size() : 4));
    for (const std::string& text : texts) {
      const bool matches = judge.finds(text), grows = judge.may_grow(text);
      EXPECT_EQ(walk.accepts(text), matches) << pattern << " on '" << text << "'";
      EXPECT_EQ(walk.begins(text), matches || grows || text.empty()) << pattern << " on '" << text << "'";
      matched += matches, viable += grows, ++compared;
    }
  }
  EXPECT_GT(matched, 300);
  EXPECT_GT(viable, 300);
  EXPECT_GT(compared - matched - viable, 1000);
}

TEST(Regex, FindsPartsAsPcreDoes) {
  int matched = 0;
  for (std::size_t p = 0; p < patterns().size(); ++p) {
    const auto& [pattern, given] = patterns()[p];
    const Regex regex = parse_regex(pattern, "pattern", RegexMatch::kPart);
    const CharAutomaton automaton = CharAutomaton::from_expression(regex.tree, regex.root, "pattern");
    const CharAutomaton others = automaton.complement();
    Pcre judge(pattern);
    std::vector<std::string> texts = given;
    for (std::uint64_t i = 0; i < 150; ++i) texts.push_back(random_text(50 + p, i, i % 2 == 0 ? kLetters.size() : 4));
    for (const std::string& text : texts) {
      const bool finds = judge.finds(text);
      EXPECT_EQ(automaton.matches(text), finds) << pattern << " in '" << text << "'";
      EXPECT_EQ(others.matches(text), !finds) << pattern << " in '" << text << "'";
      matched += finds;
    }
  }
  EXPECT_GT(matched, 1000);
}

// A pattern put together at random out of everything that has a meaning.
std::string random_pattern(std::uint64_t stream, std::uint64_t& index, int depth) {
  const auto draw = [&](std::uint64_t below) { return random_bits(6, stream, index++) % below; };
  static const std::vector<std::string> kAtoms = {"a", "b", "c", "é", ".", "[ab]", "[^b]", "\\d", "7", "\\w", "[a-c7]"};
  static const std::vector<std::string> kRepeats = {"*", "+", "?", "{2}", "{1,3}", "{0,2}", "{2,}"};
  std::string pattern;
  for (std::uint64_t terms = 1 + draw(3); terms > 0; --terms) {
    if (depth > 0 && draw(3) == 0) {
      pattern += "(?:" + random_pattern(stream, index, depth - 1) + "|" + random_pattern(stream, index, depth - 1) + ")";
    } else {
      pattern += kAtoms[draw(kAtoms.size())];
    }
    if (draw(3) == 0) pattern += kRepeats[draw(kRepeats.size())];
  }
  return pattern;
}

TEST(Regex, AgreesWithPcreOnRandomPatterns) {
  int matched = 0, too_large = 0;
  for (std::uint64_t round = 0; round < 150; ++round) {
    std::uint64_t index = 0;
    const std::string pattern = random_pattern(round, index, 2);
    SCOPED_TRACE(pattern);
    GrammarWalk walk(regex_grammar(pattern, "pattern"));
    Pcre judge(whole(pattern)), part(pattern);
    const Regex regex = parse_regex(pattern, "pattern", RegexMatch::kPart);
    CharAutomaton automaton;
    try {
      automaton = CharAutomaton::from_expression(regex.tree, regex.root, "pattern");
    } catch (const Error& error) {
      ASSERT_EQ(error.kind(), ErrorKind::kUnsupported);
      ++too_large;
      continue;
    }
    for (std::uint64_t i = 0; i < 60; ++i) {
      const std::string text = random_text(1000 + round, i, i % 2 == 0 ? 6 : 4);
      const bool matches = judge.finds(text);
      ASSERT_EQ(walk.accepts(text), matches) << "'" << text << "'";
      ASSERT_EQ(walk.begins(text), matches || judge.may_grow(text) || text.empty()) << "'" << text << "'";
      ASSERT_EQ(automaton.matches(text), part.finds(text)) << "'" << text << "'";
      matched += matches;
    }
  }
  EXPECT_GT(matched, 400);
  EXPECT_LT(too_large, 15);
}

TEST(Regex, TakesAHyphenBesideAClassAsItIs) {  // PCRE2 refuses it
  GrammarWalk walk(regex_grammar("[\\d-x]+", "pattern"));
  EXPECT_TRUE(walk.accepts("0-x9"));
  EXPECT_FALSE(walk.begins("a"));
}

TEST(Regex, NeedsSomeText) {
  for (const char* pattern : {"[]", "a[]", "a^b", "a$b"})
    expect_error(ErrorKind::kBadInput, "no text at all is allowed", [&] { regex_grammar(pattern, "p"); });
  GrammarWalk walk(regex_grammar("a|b[]", "p"));
  EXPECT_TRUE(walk.accepts("a"));
  EXPECT_FALSE(walk.begins("b"));  // it leads nowhere
}

TEST(Regex, TakesCharactersByteByByte) {
  GrammarWalk walk(regex_grammar("é😀|中", "pattern"));
  const std::string text = "é😀";
  for (std::size_t size = 0; size <= text.size(); ++size) EXPECT_TRUE(walk.begins(text.substr(0, size))) << size;
  for (const char* bytes : {"\xA9", "\xC3\xC3", "\xE4\xB8\xAE", "\xC3\xA9\xF0\x9F\x98\x81"}) EXPECT_FALSE(walk.begins(bytes));
}

TEST(Regex, CountsFarWithoutGrowing) {
  const Grammar grammar = regex_grammar("(?:[a-z]{1,5000}-){2,100000}", "pattern");
  EXPECT_LT(grammar.states.size(), 40u);
  GrammarWalk walk(grammar);
  EXPECT_TRUE(walk.accepts(std::string(5000, 'a') + "-b-"));
  EXPECT_FALSE(walk.accepts(std::string(5000, 'a') + "-"));
  EXPECT_FALSE(walk.begins(std::string(5001, 'a')));
}

TEST(Regex, RefusesWhatItCannotFollowWithThePosition) {
  const auto refused = [](const char* pattern, const std::string& words) {
    expect_error(ErrorKind::kUnsupported, "[--regex] " + words, [&] { regex_grammar(pattern, "--regex"); });
  };
  refused("ab(?=c)", "character 3: look-ahead");
  refused("(?!a)b", "character 1: look-ahead");
  refused("é(?<=c)", "character 2: look-behind");
  refused("(?<!c)", "character 1: look-behind");
  refused("(a)\\1", "character 4: back-references");
  refused("\\k<a>", "character 1: back-references");
  refused("\\bword", "character 1: word boundaries");
  refused("(?i)a", "character 2: this kind of group");
  refused("\\p{Greek}", "character 1: the property 'Greek'");
  refused("\\q", "character 1: the escape \\q");
  refused("\\01", "character 1: the escape \\0");
  refused("(^a)*", "character 5: ^ or $ inside a repetition");
  refused("a{1000001}", "character 3: at most 1000000");
  refused("a{2,99999999999999999999}", "character 5: at most 1000000");
  refused("(a?){65}", "something that may be empty is repeated 65 times, at most 64");
  refused(std::string(200, '^').c_str(), "there are more than 100 anchors");
  refused(std::string(10'001, 'a').c_str(), "the pattern has 10001 bytes, at most 10000");
  refused((std::string(100, '(') + std::string(100, ')')).c_str(), "character 66: groups stand in each other more than 64 deep");
}

TEST(Regex, SaysWhereASyntaxErrorIs) {
  const auto bad = [](const std::string& pattern, const std::string& words) {
    expect_error(ErrorKind::kBadInput, "[p] " + words, [&] { regex_grammar(pattern, "p"); });
  };
  bad("a(b", "character 2: this group is not closed");
  bad("ab)", "character 3: there is no group that this ) closes");
  bad("[ab", "character 1: this class of characters is not closed");
  bad("[b-a]", "character 2: the range in this class runs backwards");
  bad("*a", "character 1: there is nothing before this repetition");
  bad("a**", "character 3: there is nothing before this repetition");
  bad("a{2}{3}", "character 5: there is nothing before this repetition");
  bad("a{3,2}", "character 2: from 3 to 2 times is no repetition");
  bad("a\\", "character 3: a backslash at the end");
  bad("\\u12", "character 5: expected 4 hexadecimal digits");
  bad("\\ud83d", "character 3: half of a surrogate pair");
  bad("a\\u{110000}", "character 4: half of a surrogate pair, or a number past 10FFFF, is no character");
  bad("(?<1>a)", "character 5: expected a group's name");
  bad("a\xFF", "character 2: this is not UTF-8");
}

// What would take an automaton of millions of states is refused in time.
TEST(CharAutomaton, RefusesWhatGrowsTooLarge) {
  const auto refused = [](const char* pattern) {
    const Regex regex = parse_regex(pattern, "p", RegexMatch::kPart);
    expect_error(ErrorKind::kUnsupported, "[p] needs more than 30000 states",
                 [&] { CharAutomaton::from_expression(regex.tree, regex.root, "p"); });
  };
  refused("a{100000}");
  refused("(?:a|b)*a(?:a|b){20}");
  refused("(?:(?:){1000000}){1000000}");
  refused("(?:.*a){5000}");
  expect_error(ErrorKind::kUnsupported, "[p] needs more", [] { CharAutomaton::of_length(0, 1'000'000, "p"); });
}

TEST(CharAutomaton, CombinesSets) {
  const std::vector<std::string> texts = {"a", "ab", "é", ""};
  const CharAutomaton listed = CharAutomaton::of_texts(texts, "t");
  for (const std::string& text : texts) EXPECT_TRUE(listed.matches(text));
  for (const char* text : {"b", "abc", "\xC3", "\xFF"}) EXPECT_FALSE(listed.matches(text));
  const CharAutomaton short_ones = listed.both(CharAutomaton::of_length(1, 1, "t"), "t");
  EXPECT_TRUE(short_ones.matches("é"));
  EXPECT_FALSE(short_ones.matches("ab"));
  EXPECT_FALSE(short_ones.matches(""));
  EXPECT_FALSE(short_ones.empty());
  EXPECT_TRUE(listed.both(listed.complement(), "t").empty());
  EXPECT_TRUE(CharAutomaton::anything().complement().empty());
  EXPECT_TRUE(CharAutomaton::of_texts({}, "t").empty());
  EXPECT_FALSE(listed.complement().matches("\xFF"));  // no text at all
}

}  // namespace
}  // namespace puna
