// SPDX-License-Identifier: Apache-2.0
#include "grammar/pushdown.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "base/random.h"
#include "grammar/gbnf.h"
#include "grammar/grammar_walk.h"
#include "grammar/regex.h"

namespace puna {
namespace {

TEST(Pushdown, GivesEqualPositionsOneNumber) {
  GrammarWalk walk(gbnf_grammar("root ::= \"x\" list \"y\" [0-9]{1,3}\nlist ::= [a-z]*", "g"));
  EXPECT_EQ(walk.after("xab"), walk.after("xqrstu"));
  EXPECT_NE(walk.after("xaby1"), walk.after("xaby12"));
  EXPECT_EQ(walk.after("xaby12"), walk.after("xyyy34"));
  EXPECT_EQ(walk.after("A"), kNowhere);
  EXPECT_EQ(walk.after("Aa"), kNowhere);
}

// within_reach() may change how much is left to count, and nothing else that so few bytes can tell.
TEST(Pushdown, CutsCountsToWhatIsWithinReach) {
  constexpr std::uint32_t kReach = 4;
  for (const char* pattern : {"a{0,100}b", "a{50,100}b", "(?:ab?){10,300}c", "(?:(?:ab){1,9}c){3,50}", "a{3}b{97,}c"}) {
    const auto grammar = shared(regex_grammar(pattern, "p"));
    Pushdown automaton(grammar, kReach);
    automaton.allow_work(1'000'000'000);
    for (std::uint64_t round = 0; round < 300; ++round) {
      Position position = automaton.start();
      for (std::uint64_t n = random_bits(4, round, 0) % 120; n > 0; --n) {
        const Position next = automaton.step(position, static_cast<std::uint8_t>("abc"[random_bits(4, round, n) % 3]));
        if (next != kNowhere) position = next;
      }
      const Position near = automaton.within_reach(position);
      EXPECT_EQ(automaton.may_end(near), automaton.may_end(position));
      for (std::uint64_t text = 0; text < 81; ++text) {
        Position a = position, b = near;
        std::uint64_t rest = text;
        for (std::uint32_t i = 0; i < kReach; ++i, rest /= 3) {
          a = automaton.step(a, static_cast<std::uint8_t>("abc"[rest % 3]));
          b = automaton.step(b, static_cast<std::uint8_t>("abc"[rest % 3]));
          ASSERT_EQ(a == kNowhere, b == kNowhere) << pattern;
          ASSERT_EQ(automaton.may_end(a), automaton.may_end(b)) << pattern;
        }
      }
    }
  }
}

TEST(Pushdown, TakesMostOfALongCountForOnePosition) {
  Pushdown automaton(shared(regex_grammar("a{0,100000}", "p")), 8);
  Position position = automaton.start();
  const Position first = automaton.within_reach(position);
  for (int i = 0; i < 50'000; ++i) position = automaton.step(position, 'a');
  EXPECT_EQ(automaton.within_reach(position), first);
}

TEST(Pushdown, ForgetsAllPositionsButOne) {
  const auto grammar = shared(gbnf_grammar("root ::= \"(\" root \")\" | [a-z]{1,9} | \"[\" root{2,5} \"]\"", "g"));
  Pushdown kept(grammar, 8), forgetful(grammar, 8);
  const std::string text = "(([(abc)[xy(z)";
  Position a = kept.start(), b = forgetful.start();
  for (const char byte : text) {
    a = kept.step(a, static_cast<std::uint8_t>(byte));
    b = forgetful.forget_others(forgetful.step(b, static_cast<std::uint8_t>(byte)));
    ASSERT_NE(b, kNowhere);
    for (const char* rest : {"]]))", "a]]))", "q])])", ")", "]", "abcdefghi", "abcdefghij", "(", "x]x]))", "]x]))"}) {
      Position x = a, y = b;
      for (const char c : std::string(rest)) {
        x = kept.step(x, static_cast<std::uint8_t>(c)), y = forgetful.step(y, static_cast<std::uint8_t>(c));
        ASSERT_EQ(x == kNowhere, y == kNowhere) << text << " " << rest;
      }
      ASSERT_EQ(kept.may_end(x), forgetful.may_end(y));
    }
  }
  EXPECT_LT(forgetful.bytes(), kept.bytes());
}

// Grammars that can be read in ever more ways are given up in time, and the object can be used again.
TEST(Pushdown, GivesUpOnTooManyReadings) {
  GrammarWalk walk(gbnf_grammar("root ::= s*\ns ::= \"a\" s a | \"a\" s b | \"c\"\na ::= \"x\" \"1\"\nb ::= \"x\" \"2\"", "g"));
  const auto start = std::chrono::steady_clock::now();
  expect_error(ErrorKind::kUnsupported, "can be read in too many ways", [&] { walk.after(std::string(60, 'a')); });
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
  EXPECT_TRUE(walk.accepts("aacx1x2"));
  EXPECT_FALSE(walk.begins("aacx1x3"));

  GrammarWalk counts(regex_grammar("(?:a{1,1000}){1,1000}", "p"));
  EXPECT_TRUE(counts.accepts(std::string(100, 'a')));
  expect_error(ErrorKind::kUnsupported, "can be read in too many ways", [&] { counts.after(std::string(5000, 'a')); });
}

}  // namespace
}  // namespace puna
