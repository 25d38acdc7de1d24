// SPDX-License-Identifier: Apache-2.0
// Masks against trying every token of the vocabulary byte by byte, with vocabularies made here and with Llama 3's.
#include "grammar/constraint.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/random.h"
#include "grammar/gbnf.h"
#include "grammar/grammar_walk.h"
#include "grammar/json_schema.h"
#include "grammar/regex.h"
#include "shared_data.h"

namespace puna {
namespace {

const char* const kLlama3 = "llama3_tokenizer/tokenizer.model";

bool allows(std::span<const std::uint32_t> mask, int token) {
  return (mask[static_cast<std::size_t>(token) / 32] >> (token % 32) & 1u) != 0;
}

std::vector<int> allowed(std::span<const std::uint32_t> mask) {
  std::vector<int> tokens;
  for (int token = 0; token < static_cast<int>(32 * mask.size()); ++token) {
    if (allows(mask, token)) tokens.push_back(token);
  }
  return tokens;
}

std::vector<std::shared_ptr<const Grammar>> grammars() {
  std::vector<std::shared_ptr<const Grammar>> all;
  for (const char* pattern : {".*", "[a-z]{3,9}", "(?:[a-z]+ ?){2,40}", "[^/]+", "[\\s\\S]{5,30}", "(?:é|中|😀){2,}",
                              "\"[^\"]{0,12}\"", "[0-9]{1,4}|the (?:name|value)", "\\w{2,5}@\\w+\\.com"})
    all.push_back(shared(regex_grammar(pattern, "p")));
  all.push_back(shared(gbnf_grammar("root ::= \"(\" root \")\" | [a-z ]+ | \"\\\"\" [^\"]* \"\\\"\"", "g")));
  for (
      const char* schema :
      {R"({})", R"({"type": "string", "maxLength": 20})", R"({"type": "string", "minLength": 30, "maxLength": 31})",
       R"({"type": "object", "properties": {"name": {"type": "string"}, "id": {"type": "integer", "maximum": 345}}, "required": ["id"]})",
       R"({"type": "array", "items": {"enum": ["a", "aa", "é", 12, null, true]}, "minItems": 3, "maxItems": 400})",
       R"({"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "properties": {"value": {"type": "string", "maxLength": 9},
            "next": {"anyOf": [{"$ref": "#/$defs/tree"}, {"type": "null"}]}}, "required": ["next"]}}})"})
    all.push_back(shared(json_schema_grammar(parse_json(schema, "s"), "s")));
  return all;
}

// Every allowed token leads somewhere and no other does, at positions that random texts lead to.
void compare_masks(const Tokenizer& tokenizer, int texts, int tokens_each) {
  const auto vocabulary = std::make_shared<const VocabularyIndex>(tokenizer);
  int compared = 0;
  for (const auto& grammar : grammars()) {
    Constraint constraint(grammar, vocabulary);
    Pushdown judge(grammar, 1);
    for (int text = 0; text < texts; ++text) {
      constraint.restart();
      Position position = judge.start();
      for (int step = 0; step < tokens_each; ++step) {
        judge.allow_work(1'000'000'000);
        const auto mask = constraint.mask();
        ASSERT_EQ(mask.size(), vocabulary->words());
        for (int token = 0; token < tokenizer.size(); ++token) {
          const std::string bytes = tokenizer.is_special(Token{token}) ? "" : tokenizer.piece(Token{token});
          Position next = bytes.empty() ? kNowhere : position;
          for (const char byte : bytes) next = judge.step(next, static_cast<std::uint8_t>(byte));
          const bool ends = std::ranges::count(tokenizer.end_tokens(), Token{token}) > 0;
          ASSERT_EQ(allows(mask, token), ends ? judge.may_end(position) : next != kNowhere)
              << "token " << token << " '" << bytes << "' at step " << step;
        }
        ++compared;
        const std::vector<int> choices = allowed(mask);
        ASSERT_FALSE(choices.empty());
        const int token =
            choices[random_bits(7, static_cast<std::uint64_t>(text), static_cast<std::uint64_t>(step)) % choices.size()];
        ASSERT_TRUE(constraint.advance(Token{token}));
        if (constraint.ended()) break;
        for (const char byte : tokenizer.piece(Token{token})) position = judge.step(position, static_cast<std::uint8_t>(byte));
      }
    }
  }
  EXPECT_GT(compared, 10 * texts);
}

TEST(Constraint, AllowsWhatLeadsSomewhere) { compare_masks(PieceTokenizer(json_pieces()), 12, 25); }

TEST(Constraint, AllowsWhatLeadsSomewhereInLlama3sVocabulary) {
  PUNA_NEEDS_SHARED(kLlama3);
  compare_masks(*load_tokenizer_file(shared_data(kLlama3)), 1, 6);
}

TEST(Constraint, EndsWhereTheGrammarMay) {
  const PieceTokenizer tokenizer({"a", "b", "<eos>", "ab", "<other>", "\n", "b"});
  const auto vocabulary = std::make_shared<const VocabularyIndex>(tokenizer);
  Constraint constraint(shared(regex_grammar("ab|abab", "p")), vocabulary);
  EXPECT_EQ(allowed(constraint.mask()), (std::vector<int>{0, 3}));
  EXPECT_FALSE(constraint.advance(Token{2}));
  EXPECT_FALSE(constraint.advance(Token{1}));
  EXPECT_FALSE(constraint.advance(Token{4}));
  EXPECT_TRUE(constraint.advance(Token{0}));
  EXPECT_EQ(allowed(constraint.mask()), (std::vector<int>{1, 6}));  // two tokens of the same bytes
  EXPECT_TRUE(constraint.advance(Token{6}));
  EXPECT_TRUE(constraint.may_end());
  EXPECT_EQ(allowed(constraint.mask()), (std::vector<int>{0, 2, 3}));
  EXPECT_TRUE(constraint.advance(Token{2}));
  EXPECT_TRUE(constraint.ended());
  EXPECT_EQ(allowed(constraint.mask()), (std::vector<int>{2}));
  EXPECT_FALSE(constraint.advance(Token{0}));

  // A stop token of the user's is no text, whatever its bytes, and other ids are passed over.
  constraint.restart(std::vector<Token>{Token{3}, Token{99}, Token{-1}});
  EXPECT_FALSE(constraint.ended());
  EXPECT_EQ(allowed(constraint.mask()), (std::vector<int>{0}));
  EXPECT_TRUE(constraint.advance(Token{0}));
  EXPECT_TRUE(constraint.advance(Token{1}));
  EXPECT_EQ(allowed(constraint.mask()), (std::vector<int>{0, 2, 3}));
  constraint.restart();
  EXPECT_EQ(allowed(constraint.mask()), (std::vector<int>{0, 3}));
}

TEST(Constraint, NeverAllowsSpecialTokens) {
  const PieceTokenizer tokenizer({"<eos>", "<tool>", "x", "<", "tool", ">"});
  Constraint constraint(shared(regex_grammar(".*", "p")), std::make_shared<const VocabularyIndex>(tokenizer));
  EXPECT_EQ(allowed(constraint.mask()), (std::vector<int>{0, 2, 3, 4, 5}));
  EXPECT_FALSE(constraint.advance(Token{1}));
}

TEST(Constraint, TakesTokensThatEndInsideACharacter) {
  const PieceTokenizer tokenizer({"\xF0\x9F", "\x98", "\x80", "\x81", "a", "\x98\x80", "<eos>"});
  Constraint constraint(shared(regex_grammar("[😀-😂]a", "p")), std::make_shared<const VocabularyIndex>(tokenizer));
  EXPECT_EQ(allowed(constraint.mask()), (std::vector<int>{0}));
  ASSERT_TRUE(constraint.advance(Token{0}));
  EXPECT_EQ(allowed(constraint.mask()), (std::vector<int>{1, 5}));
  ASSERT_TRUE(constraint.advance(Token{1}));
  EXPECT_EQ(allowed(constraint.mask()), (std::vector<int>{2, 3}));
  ASSERT_TRUE(constraint.advance(Token{3}));
  EXPECT_EQ(allowed(constraint.mask()), (std::vector<int>{4}));
}

// With room for nothing, each mask forgets what the one before it learnt, and all are the same.
TEST(Constraint, ForgetsWhenItsMemoryIsFull) {
  const PieceTokenizer tokenizer(json_pieces());
  const auto vocabulary = std::make_shared<const VocabularyIndex>(tokenizer);
  for (const auto& grammar : grammars()) {
    Constraint roomy(grammar, vocabulary), tight(grammar, vocabulary, 0);
    for (std::uint64_t step = 0; step < 40 && !roomy.ended(); ++step) {
      const std::vector<int> choices = allowed(roomy.mask());
      ASSERT_EQ(choices, allowed(tight.mask()));
      const Token token{choices[random_bits(9, 0, step) % choices.size()]};
      ASSERT_TRUE(roomy.advance(token));
      ASSERT_TRUE(tight.advance(token));
    }
  }
}

TEST(Constraint, CanGoOnAfterAnError) {
  const PieceTokenizer tokenizer({"a", "c", "x1", "<eos>", std::string(70, 'a')});
  Constraint constraint(
      shared(gbnf_grammar("root ::= s\ns ::= \"a\" s x | \"a\" s y | \"c\"\nx ::= \"x\" \"1\"\ny ::= \"x\" \"2\"", "g")),
      std::make_shared<const VocabularyIndex>(tokenizer));
  expect_error(ErrorKind::kUnsupported, "too many ways", [&] { constraint.mask(); });
  ASSERT_TRUE(constraint.advance(Token{0}));
  ASSERT_TRUE(constraint.advance(Token{1}));
  EXPECT_EQ(allowed(constraint.mask()), (std::vector<int>{2}));
}

TEST(VocabularyIndex, HoldsEveryOrdinaryTokenOnce) {
  const PieceTokenizer tokenizer(json_pieces());
  const VocabularyIndex vocabulary(tokenizer);
  std::vector<int> seen(static_cast<std::size_t>(vocabulary.size()), 0);
  for (const TokenGroup& group : vocabulary.groups()) {
    std::string path;
    for (std::size_t i = 0; i < group.trie.size(); ++i) {
      const TrieNode& node = group.trie[i];
      path.resize(node.depth);
      path += static_cast<char>(node.byte);
      EXPECT_GT(node.end, i);
      EXPECT_LE(node.end, group.trie.size());
      if (node.token < 0) continue;
      EXPECT_EQ(path, tokenizer.piece(Token{node.token}));
      ++seen[static_cast<std::size_t>(node.token)];
      EXPECT_TRUE(group.char_class < 0 || allows(group.mask, node.token));
    }
  }
  for (const auto& [twin, token] : vocabulary.twins()) {
    EXPECT_EQ(vocabulary.bytes(Token{twin}), vocabulary.bytes(Token{token}));
    EXPECT_EQ(seen[static_cast<std::size_t>(token)], 1);
    ++seen[static_cast<std::size_t>(twin)];
  }
  for (int token = 0; token < vocabulary.size(); ++token)
    EXPECT_EQ(seen[static_cast<std::size_t>(token)], tokenizer.is_special(Token{token}) ? 0 : 1) << token;
  EXPECT_EQ(vocabulary.longest(), 8u);
  EXPECT_TRUE(vocabulary.bytes(Token{-1}).empty());
  EXPECT_TRUE(vocabulary.bytes(Token{vocabulary.size()}).empty());
}

}  // namespace
}  // namespace puna
