// SPDX-License-Identifier: Apache-2.0
// GBNF: what its signs mean, recursion against counting by hand, and errors with their place.
#include "grammar/gbnf.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/json.h"
#include "base/random.h"
#include "grammar/grammar_walk.h"
#include "grammar/pcre.h"

namespace puna {
namespace {

// Rules that are regular, and the same as a regular expression.
TEST(Gbnf, MeansWhatTheSameRegularExpressionMeans) {
  const std::vector<std::pair<std::string, std::string>> same = {
      {R"g(root ::= "ab" | [c-d]+ "x"?)g", "ab|[c-d]+x?"},
      {"root ::= a b* # the rest is elsewhere\n\n# a comment\na ::= \"a\" |\n  \"c\"\nb ::= (\n \"b\"\n | # or\n \"d\" )",
       "(a|c)(b|d)*"},
      {R"g(root ::= "ab"{2} [^a]{0,2} "c"{1,})g", "(ab){2}[^a]{0,2}c+"},
      {R"g(root ::= ("a" | "b" "c")? .)g", "(a|bc)?[\\s\\S]"},
      {R"g(root ::= "\x61\u0062\U00000063\n\"\\" [\]\[-]*)g", "abc\\n\"\\\\[\\]\\[-]*"},
      {"root::=tail tail-2\r\ntail ::= \"a\"\r\ntail-2 ::= \"b\"", "ab"},
      {R"g(root ::= "" "a" "")g", "a"},
      {R"g(root ::= "a"?* "b")g", "a*b"},
      {"root ::= \"a\" list\nlist ::= \"b\" list | \"b\"", "ab+"},
      {R"g(root ::= [é中]+ "😀"{2})g", "[é中]+(😀){2}"},
      {R"g(root ::= [a-c-]+)g", "[a-c-]+"},
  };
  const std::vector<std::string> letters = {"a", "b", "c", "d", "x", "\n", "\"", "\\", "é", "中", "😀", "-", "]", "["};
  for (const auto& [grammar, pattern] : same) {
    GrammarWalk walk(gbnf_grammar(grammar, "g"));
    Pcre judge(whole(pattern));
    int matched = 0;
    for (std::uint64_t i = 0; i < 600; ++i) {
      std::string text;
      for (std::uint64_t n = random_bits(1, i, 0) % 6; n > 0; --n) text += letters[random_bits(1, i, n) % letters.size()];
      for (const std::string& extra :
           {text, "ab" + text, text + "b", "abab" + text, "a" + std::string(i % 9, 'b'), std::string("é中😀😀")}) {
        ASSERT_EQ(walk.accepts(extra), judge.finds(extra)) << grammar << " on '" << extra << "'";
        ASSERT_EQ(walk.begins(extra), judge.finds(extra) || judge.may_grow(extra) || extra.empty())
            << grammar << " on '" << extra << "'";
        matched += judge.finds(extra);
      }
    }
    EXPECT_TRUE(matched > 0 || grammar == same[4].first) << grammar;
  }
  GrammarWalk escapes(gbnf_grammar(same[4].first, "g"));
  EXPECT_TRUE(escapes.accepts("abc\n\"\\-[]"));
}

TEST(Gbnf, FollowsRecursion) {
  GrammarWalk walk(gbnf_grammar(R"g(root ::= "(" root ")" root | "[" root "]" root | "")g", "g"));
  for (std::uint64_t round = 0; round < 2000; ++round) {
    std::string text, open;
    bool begins = true;
    for (std::uint64_t n = random_bits(2, round, 0) % 12; n > 0; --n) {
      const char c = "([)]"[random_bits(2, round, n) % 4];
      text += c;
      if (c == '(' || c == '[') {
        open += c == '(' ? ')' : ']';
      } else {
        begins = begins && !open.empty() && open.back() == c;
        if (begins) open.pop_back();
      }
    }
    ASSERT_EQ(walk.begins(text), begins) << text;
    ASSERT_EQ(walk.accepts(text), begins && open.empty()) << text;
  }
}

// The arithmetic of llama.cpp's README, and JSON, judged by a parser of it.
TEST(Gbnf, ReadsTheUsualGrammars) {
  GrammarWalk sums(gbnf_grammar(R"g(root  ::= (expr "=" ws term "\n")+
expr  ::= term ([-+*/] term)*
term  ::= ident | num | "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num   ::= [0-9]+ ws
ws    ::= [ \t\n]*
)g",
                                "g"));
  EXPECT_TRUE(sums.accepts("x1 +(3*y)= 4\n"));
  EXPECT_TRUE(sums.accepts("1=1\n2 = a\n"));
  EXPECT_TRUE(sums.begins("(((1"));
  EXPECT_FALSE(sums.begins("1 +="));
  EXPECT_FALSE(sums.accepts("1=1"));

  GrammarWalk json(gbnf_grammar(R"g(root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [1-9] [0-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
)g",
                                "g"));
  const std::vector<std::string> pieces = {"{", "}",    "[",    "]", ":",           ",",  "\"a\"",
                                           "1", "-2.5", "true", " ", "\"\\u00e9\"", "01", "\"\\x\""};
  int accepted = 0;
  for (std::uint64_t round = 0; round < 30000; ++round) {
    std::string text = "{\"k\":";
    for (std::uint64_t n = 1 + random_bits(3, round, 0) % 6; n > 0; --n) text += pieces[random_bits(3, round, n) % pieces.size()];
    text += "}";
    const bool accepts = json.accepts(text);
    EXPECT_TRUE(!accepts || Json::accept(text)) << text;
    accepted += accepts;
  }
  EXPECT_GT(accepted, 500);
  EXPECT_TRUE(json.accepts("{\"a\": [1, {\"b\": [null]}],\n  \"c\": \"é\\n\"}"));
}

// A rule that is called last takes no place on the stack, and others nest only so deep that they can still end.
TEST(Gbnf, NestsDeepAndStillEnds) {
  GrammarWalk list(gbnf_grammar("root ::= \"a\" root | \"b\"", "g"));
  EXPECT_TRUE(list.accepts(std::string(50'000, 'a') + "b"));
  GrammarWalk nested(gbnf_grammar("root ::= \"(\" inner \")\" | \"x\"\ninner ::= root", "g"));
  const auto depth = static_cast<std::size_t>(kMaxGbnfNesting);
  EXPECT_TRUE(nested.accepts(std::string(depth, '(') + "x" + std::string(depth, ')')));
  EXPECT_TRUE(nested.begins(std::string(depth, '(')));
  EXPECT_FALSE(nested.begins(std::string(depth + 1, '(')));
}

TEST(Gbnf, CountsTheLinesOfAllRulesInOneWalk) {
  std::string text = "root ::= \"a\"\n";
  constexpr int kRules = 80'000;
  for (int i = 0; i < kRules; ++i) text += fmt::format("{:x}::=\"\"\n", i);
  EXPECT_TRUE(GrammarWalk(gbnf_grammar(text, "g")).accepts("a"));
  expect_error(ErrorKind::kBadInput, "line 80002, column 1: the rule 'ffff' is defined a second time, first in line 65537",
               [&] { gbnf_grammar(text + "ffff::=\"\"", "g"); });
}

TEST(Gbnf, SaysWhereAnErrorIs) {
  const auto bad = [](const std::string& text, const std::string& words, ErrorKind kind = ErrorKind::kBadInput) {
    expect_error(kind, "[file.gbnf] " + words, [&] { gbnf_grammar(text, "file.gbnf"); });
  };
  bad("", "there is no rule 'root'");
  bad("top ::= \"a\"", "there is no rule 'root'");
  bad("root ::= \"a\" b\nc ::= \"c\"", "line 1, column 14: the rule 'b' is used here, and defined nowhere");
  bad("root ::= \"a\"\nroot ::= \"b\"", "line 2, column 1: the rule 'root' is defined a second time, first in line 1");
  bad("root = \"a\"", "line 1, column 6: expected ::= behind the name 'root'");
  bad("root ::= \"é\" $", "line 1, column 14: expected a symbol, | or the end of the line");
  bad("root ::= \"a", "line 1, column 10: this text has no \" at its end");
  bad("root ::= \"a\"\n  | \"b\"", "line 2, column 3: expected the name of a rule");
  bad("root ::= [a", "line 1, column 10: this class of characters has no ]");
  bad("root ::= [b-a]", "line 1, column 11: the range in this class runs backwards");
  bad("root ::= (\"a\"\n\"b\"", "line 1, column 10: this group is not closed");
  bad("root ::= \"\\q\"", "line 1, column 11: this escape is not known");
  bad("root ::= \"\\u12\"", "line 1, column 13: expected 4 hexadecimal digits");
  bad("root ::= \"\\ud800\"", "line 1, column 13: this number is no character's");
  bad("root ::= \"a\"{3,2}", "line 1, column 13: from 3 to 2 times");
  bad("root ::= \"a\"{x}", "line 1, column 14: expected a number of repetitions");
  bad("root ::= \"a\"{2", "line 1, column 15: expected }");
  bad("root ::= * \"a\"", "line 1, column 10: there is nothing before this repetition");
  bad("root ::= \"\xFF\"", "line 1, column 11: this is not UTF-8");
  bad("root ::= \"a\" root", "no text at all is allowed");
  const auto refused = [&](const std::string& text, const std::string& words) { bad(text, words, ErrorKind::kUnsupported); };
  refused("root ::= root \"a\" | \"b\"", "the rule 'root' (line 1) begins with itself (left recursion)");
  refused("root ::= ws expr\nws ::= \" \"*\nexpr ::= ws term \"+\"\nterm ::= ws expr | \"1\"",
          "the rule 'expr' (line 3) begins with itself (left recursion), by way of the rule 'term' (line 4)");
  refused("root ::= <think> \"a\"", "line 1, column 10: references to tokens");
  refused("root ::= \"a\"{2000000}", "line 1, column 14: at most 1000000 repetitions");
  refused("root ::= \"a\"?????????", "line 1, column 21: more than 8 repetitions");
  refused("root ::= " + std::string(100, '(') + "\"a\"" + std::string(100, ')'),
          "line 1, column 74: groups stand in each other more than 64 deep");
  refused("root ::= (\"a\"?){100}", "something that may be empty is repeated 100 times");
  refused(std::string(kMaxGbnfBytes + 1, ' '), "the grammar has 1048577 bytes, at most 1048576");
  std::string huge = "root ::= \"\"";
  for (int i = 0; i < 100'000; ++i) huge += " .";
  refused(huge, "needs more than 400000 states");
}

}  // namespace
}  // namespace puna
