// SPDX-License-Identifier: Apache-2.0
// The generation loop: every way to end, text that never shows what it should not, and a cache that is reused without a trace.
#include "infer/generate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <vector>

#include "base/error.h"
#include "expect_error.h"
#include "grammar/regex.h"
#include "infer/score.h"
#include "infer/scripted_model.h"
#include "model/tiny_checkpoint.h"
#include "shared_data.h"

namespace puna {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const std::vector<std::string> kPieces{"<bos>", "Once", " up", "on", " a",    " ti", "me",
                                       ",",     " the", "re",  ".",  "<eos>", " No", " more"};

GenerateOptions greedy() {
  GenerateOptions options;
  options.sampler.temperature = 0;
  return options;
}

struct Heard {
  Generation generation;
  std::vector<std::string> pieces;
  std::string text() const {
    std::string all;
    for (const std::string& piece : pieces) all += piece;
    return all;
  }
};

Heard generate(Session& session, std::vector<Token> prompt, const GenerateOptions& options) {
  Heard heard;
  heard.generation = session.generate(prompt, options, [&](std::string_view piece) { heard.pieces.emplace_back(piece); });
  EXPECT_EQ(heard.text(), heard.generation.text);
  return heard;
}

template <typename Action>
std::string message_of(ErrorKind kind, Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind);
    return error.what();
  }
  return "no error";
}

std::vector<int> ids(std::span<const Token> tokens) {
  std::vector<int> result;
  for (const Token token : tokens) result.push_back(id(token));
  return result;
}

struct Generate : testing::Test {
  Engine engine{scripted_checkpoint(kPieces), EngineOptions{.threads = 1, .context = 64}};
  Session session{engine};
};

TEST_F(Generate, EndsAtAnEndToken) {
  const Heard heard = generate(session, {Token{0}, Token{1}}, greedy());
  EXPECT_EQ(heard.generation.text, " upon a time, there.");
  EXPECT_THAT(ids(heard.generation.tokens), ElementsAre(2, 3, 4, 5, 6, 7, 8, 9, 10));
  EXPECT_EQ(heard.generation.reason, FinishReason::kEndToken);
  EXPECT_EQ(heard.generation.last, Token{11});
  EXPECT_EQ(heard.generation.prompt_tokens, 2);
  EXPECT_EQ(heard.generation.cached_tokens, 0);
  EXPECT_GT(heard.generation.decode_seconds, 0);
  EXPECT_TRUE(heard.generation.logprobs.empty());
  EXPECT_THAT(ids(session.tokens()), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10));
}

TEST_F(Generate, GoesOnPastTheEndWhereAsked) {
  GenerateOptions options = greedy();
  options.ignore_end = true;
  options.max_tokens = 4;
  Heard heard = generate(session, {Token{10}}, options);
  EXPECT_EQ(heard.generation.text, " No more");  // <eos>, " No", " more", <bos>
  EXPECT_EQ(heard.generation.reason, FinishReason::kLength);
  options.with_specials = true;
  heard = generate(session, {Token{10}}, options);
  EXPECT_EQ(heard.generation.text, "<eos> No more<bos>");
}

TEST_F(Generate, EndsAtAStopToken) {
  GenerateOptions options = greedy();
  options.stop_tokens = {Token{7}};
  const Heard heard = generate(session, {Token{1}}, options);
  EXPECT_EQ(heard.generation.text, " upon a time");
  EXPECT_EQ(heard.generation.reason, FinishReason::kStopToken);
  EXPECT_EQ(heard.generation.last, Token{7});
}

TEST_F(Generate, EndsAtAStopStringOverSeveralTokens) {
  GenerateOptions options = greedy();
  options.stop = {"never", "n a tim"};
  const Heard heard = generate(session, {Token{1}}, options);
  EXPECT_EQ(heard.generation.text, " upo");
  EXPECT_EQ(heard.generation.reason, FinishReason::kStopString);
  EXPECT_EQ(heard.generation.tokens.back(), Token{6});  // "me" finished it
  EXPECT_EQ(heard.generation.last, Token{-1});
}

TEST_F(Generate, ShowsTheRestOfAnUnfinishedStopString) {
  GenerateOptions options = greedy();
  options.stop = {"there. And"};
  const Heard heard = generate(session, {Token{1}}, options);
  EXPECT_EQ(heard.generation.text, " upon a time, there.");
  EXPECT_EQ(heard.pieces.back(), "there.");
  EXPECT_EQ(heard.generation.reason, FinishReason::kEndToken);
}

TEST_F(Generate, CountsTokens) {
  GenerateOptions options = greedy();
  options.max_tokens = 3;
  EXPECT_EQ(generate(session, {Token{1}}, options).generation.text, " upon a");
  options.max_tokens = 0;
  const Heard nothing = generate(session, {Token{1}, Token{2}}, options);
  EXPECT_TRUE(nothing.generation.tokens.empty());
  EXPECT_TRUE(nothing.pieces.empty());
  EXPECT_EQ(nothing.generation.reason, FinishReason::kLength);
  EXPECT_THAT(ids(session.tokens()), ElementsAre(1, 2));  // the prompt was read
}

TEST_F(Generate, EndsWhenTheContextIsFull) {
  GenerateOptions options = greedy();
  options.ignore_end = true;
  const Heard heard = generate(session, {Token{0}, Token{1}, Token{2}}, options);
  EXPECT_EQ(heard.generation.reason, FinishReason::kContextFull);
  EXPECT_EQ(heard.generation.tokens.size(), 62u);  // the last one needs no place
  EXPECT_EQ(session.tokens().size(), 64u);
}

TEST_F(Generate, EndsWhenOtherSequencesTookTheRoom) {
  Session other(engine);
  GenerateOptions options = greedy();
  options.max_tokens = 1;
  generate(other, {Token{1}}, options);  // holds the only page
  EXPECT_THAT(message_of(ErrorKind::kNoRoom, [&] { generate(session, {Token{1}}, options); }), HasSubstr("["));
  EXPECT_TRUE(session.tokens().empty());
}

TEST_F(Generate, RefusesAPromptLongerThanTheContext) {
  const std::vector<Token> prompt(70, Token{1});
  EXPECT_EQ(message_of(ErrorKind::kNoRoom, [&] { generate(session, prompt, greedy()); }),
            "[context] the prompt has 70 tokens and 0 are cached, the context holds 64: give --context 70 or more (the model "
            "allows 256)");
  EXPECT_TRUE(session.tokens().empty());
  EXPECT_EQ(
      message_of(ErrorKind::kNoRoom, [&] { generate(session, std::vector<Token>(300, Token{1}), greedy()); }),
      "[context] the prompt has 300 tokens and 0 are cached, the context holds 64: shorten the prompt (the model allows 256)");
  EXPECT_EQ(generate(session, {Token{1}}, greedy()).generation.text, " upon a time, there.");  // and goes on working
}

TEST_F(Generate, RefusesWhatMakesNoSense) {
  EXPECT_EQ(message_of(ErrorKind::kUsage, [&] { generate(session, {}, greedy()); }),
            "[generate] the prompt has no tokens: give at least one, such as the begin-of-text token");
  GenerateOptions options = greedy();
  options.max_tokens = -2;
  EXPECT_EQ(message_of(ErrorKind::kUsage, [&] { generate(session, {Token{1}}, options); }),
            "[max_tokens] -2 is outside the range: give 0 or more, or -1 for as many as fit");
  options = greedy();
  options.sampler.top_p = 2;
  EXPECT_THAT(message_of(ErrorKind::kUsage, [&] { generate(session, {Token{1}}, options); }), HasSubstr("[top_p] 2"));
  EXPECT_EQ(message_of(ErrorKind::kBadInput,
                       [&] {
                         generate(session, {Token{1}, Token{14}}, greedy());
                       }),
            "[tokens] token 14 is outside the vocabulary: ids are 0 to 13");
}

TEST_F(Generate, StopsBetweenTokensWhenInterrupted) {
  std::atomic<bool> interrupted = false;
  std::string text;
  const auto on_text = [&](std::string_view piece) {
    text += piece;
    if (text == " upon") interrupted = true;
  };
  const Generation generation = session.generate(std::vector<Token>{Token{1}}, greedy(), on_text, &interrupted);
  EXPECT_EQ(generation.reason, FinishReason::kInterrupted);
  EXPECT_EQ(generation.text, " upon");
  EXPECT_THAT(ids(generation.tokens), ElementsAre(2, 3));
}

TEST(GenerateChunks, StopsBetweenPrefillChunksWhenInterrupted) {
  Engine engine(scripted_checkpoint(kPieces), EngineOptions{.threads = 1, .context = 64, .chunk_rows = 4});
  Session session(engine);
  const std::atomic<bool> interrupted = true;
  const std::vector<Token> prompt(11, Token{1});
  const Generation generation = session.generate(prompt, greedy(), {}, &interrupted);
  EXPECT_EQ(generation.reason, FinishReason::kInterrupted);
  EXPECT_TRUE(generation.tokens.empty());
  EXPECT_EQ(session.tokens().size(), 4u);
  const Generation again = session.generate(prompt, greedy());
  EXPECT_EQ(again.cached_tokens, 4);
  EXPECT_EQ(again.text, " upon a time, there.");
}

TEST(GenerateText, KeepsCharactersOverTokensWhole) {
  const auto checkpoint = scripted_checkpoint({"a", "\xf0\x9f", "\xa6", "\x99 b", "\xe2\x82"});
  Engine engine(checkpoint, EngineOptions{.threads = 1});
  Session session(engine);
  GenerateOptions options = greedy();
  options.max_tokens = 4;
  const Heard heard = generate(session, {Token{0}}, options);
  EXPECT_THAT(heard.pieces, ElementsAre("\xf0\x9f\xa6\x99 b"));
  EXPECT_EQ(heard.generation.tokens.size(), 4u);  // the beginning of a character is in the tokens only
}

TEST(GenerateText, TheFirstSpaceOfATextIsSentencePiecesOwn) {
  const std::vector<std::string> pieces{"<bos>", " Once", " upon", "<eos>"};
  Engine engine(scripted_checkpoint(std::make_unique<ScriptedTokenizer>(pieces, true)), EngineOptions{.threads = 1});
  Session session(engine);
  EXPECT_EQ(generate(session, {Token{0}}, greedy()).generation.text, "Once upon");
  EXPECT_EQ(generate(session, {Token{0}, Token{1}}, greedy()).generation.text, " upon");
}

TEST(GenerateText, NeverDrawsWhatTheTokenizerDoesNotKnow) {
  const std::vector<std::string> pieces{"a", "b", "c"};
  Engine engine(scripted_checkpoint(std::make_unique<ScriptedTokenizer>(pieces), 61), EngineOptions{.threads = 1, .context = 64});
  Session session(engine);
  GenerateOptions options = greedy();
  options.max_tokens = 20;
  options.top_logprobs = 8;
  const Heard likeliest = generate(session, {Token{2}}, options);  // behind "c" the network wants row 3, which is no token
  EXPECT_EQ(likeliest.generation.reason, FinishReason::kLength);
  for (const SampledToken& sampled : likeliest.generation.logprobs) {
    EXPECT_LT(id(sampled.token), 3);
    EXPECT_EQ(sampled.top.size(), 3U);
  }
  options.sampler = {.temperature = 100, .top_p = 1, .logit_bias = {}, .seed = 1};  // nearly even over all that may be drawn
  const Heard any = generate(session, {Token{0}}, options);
  EXPECT_EQ(any.generation.tokens.size(), 20U);
  for (const Token token : any.generation.tokens) EXPECT_LT(id(token), 3);
  options.sampler.logit_bias = {{Token{3}, 100.0}};
  expect_error(ErrorKind::kUsage, "token 3 is outside the vocabulary: ids are below 3",
               [&] { generate(session, {Token{0}}, options); });
}

// A grammar over the words of kPieces, for the scripted model, which would say them in order.
std::shared_ptr<Constraint> constraint(const Tokenizer& tokenizer, const std::string& pattern) {
  return std::make_shared<Constraint>(std::make_shared<const Grammar>(regex_grammar(pattern, "p")),
                                      std::make_shared<const VocabularyIndex>(tokenizer));
}

TEST(GenerateConstraint, KeepsTheTextInsideTheGrammar) {
  Engine engine(scripted_checkpoint(kPieces), {});
  Session session(engine);
  const Tokenizer& tokenizer = *engine.checkpoint().tokenizer;
  for (const char* pattern : {"Once( up| the| a|re){2,5}\\.", "( No| more)+", "Once upon a time,", "Once( upon a time)?"}) {
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      GenerateOptions options;
      options.sampler.temperature = 5;
      options.sampler.top_p = 1;
      options.sampler.seed = seed;
      options.max_tokens = 60;
      options.constraint = constraint(tokenizer, pattern);
      const Generation generation = generate(session, {Token{0}}, options).generation;
      Pushdown automaton(std::make_shared<const Grammar>(regex_grammar(pattern, "p")), 16);
      Position position = automaton.start();
      for (const char byte : generation.text) position = automaton.step(position, static_cast<std::uint8_t>(byte));
      if (generation.reason == FinishReason::kEndToken) {
        EXPECT_TRUE(automaton.may_end(position)) << generation.text;
      } else {
        EXPECT_EQ(generation.reason, FinishReason::kLength);
        EXPECT_NE(position, kNowhere) << generation.text;
      }
    }
  }
}

TEST(GenerateConstraint, BeginsAfreshEachTime) {
  Engine engine(scripted_checkpoint(kPieces), {});
  Session session(engine);
  GenerateOptions options = greedy();
  options.constraint = constraint(*engine.checkpoint().tokenizer, "Once upon a time|, the");
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(generate(session, {Token{0}}, options).generation.text, "Once upon a time");
    const Generation other = generate(session, {Token{6}}, options).generation;
    EXPECT_EQ(other.text, ", the");
    EXPECT_EQ(other.reason, FinishReason::kEndToken);
    EXPECT_EQ(other.last, Token{11});
  }
}

TEST(GenerateConstraint, AllowsStopTokensOnlyWhereTheTextMayEnd) {
  Engine engine(scripted_checkpoint(kPieces), {});
  Session session(engine);
  GenerateOptions options = greedy();
  options.stop_tokens = {Token{4}};  // " a", which the model says third
  options.constraint = constraint(*engine.checkpoint().tokenizer, "Once upon( a time)? the");
  const Generation generation = generate(session, {Token{0}}, options).generation;
  EXPECT_EQ(generation.text, "Once upon the");
  EXPECT_TRUE(generation.reason == FinishReason::kEndToken || generation.reason == FinishReason::kStopToken);
}

TEST(GenerateConstraint, EndsWithoutAnEndToken) {
  Engine engine(scripted_checkpoint({"<bos>", "a", "b", "c"}), {});
  Session session(engine);
  GenerateOptions options = greedy();
  options.constraint = constraint(*engine.checkpoint().tokenizer, "ab");
  const Generation generation = generate(session, {Token{0}}, options).generation;
  EXPECT_EQ(generation.text, "ab");
  EXPECT_EQ(generation.reason, FinishReason::kGrammarEnd);
  EXPECT_EQ(generation.last, Token{-1});
}

TEST(GenerateConstraint, SaysWhereItCannotGoOn) {
  Engine engine(scripted_checkpoint({"<bos>", "a", "b", "<eos>"}), {});
  Session session(engine);
  GenerateOptions options = greedy();
  options.constraint = constraint(*engine.checkpoint().tokenizer, "abz");
  expect_error(ErrorKind::kUnsupported, "no token of this vocabulary can go on here",
               [&] { generate(session, {Token{0}}, options); });
  options.ignore_end = true;
  expect_error(ErrorKind::kUsage, "[constraint]", [&] { generate(session, {Token{0}}, options); });
}

// SentencePiece's first space is part of what the grammar reads, so it is part of the text.
TEST(GenerateConstraint, ShowsTheFirstSpaceThatItRead) {
  const auto checkpoint =
      scripted_checkpoint(std::make_unique<ScriptedTokenizer>(std::vector<std::string>{"<bos>", " a", "b", "<eos>"}, true));
  Engine engine(checkpoint, {});
  Session session(engine);
  GenerateOptions options = greedy();
  options.constraint = constraint(*checkpoint->tokenizer, " ab");
  EXPECT_EQ(generate(session, {Token{0}}, options).generation.text, " ab");
}

TEST(GenerateText, WorksWithoutATokenizer) {
  const auto checkpoint = tiny_checkpoint(tiny_config(), Format::kF32);
  Engine engine(checkpoint, EngineOptions{.threads = 1});
  Session session(engine);
  GenerateOptions options = greedy();
  options.max_tokens = 5;
  const Heard heard = generate(session, {Token{1}}, options);
  EXPECT_EQ(heard.generation.tokens.size(), 5u);
  EXPECT_EQ(heard.generation.text, "");
  options.stop = {"x"};
  EXPECT_EQ(message_of(ErrorKind::kUsage, [&] { generate(session, {Token{1}}, options); }),
            "[stop] stop strings need a tokenizer and this checkpoint has none: give stop tokens");
}

TEST(Session, ReusesTheCommonBeginningAsIfFresh) {
  const auto checkpoint = tiny_checkpoint(tiny_config(), Format::kF32);
  const EngineOptions shape{.threads = 2, .kv_format = Format::kF32, .context = 256};
  Engine engine(checkpoint, shape), fresh_engine(checkpoint, shape);
  Session session(engine);
  GenerateOptions options;
  options.sampler.temperature = 0.8;
  options.max_tokens = 20;
  const std::vector<Token> first = random_tokens(90, 96);
  const Generation start = session.generate(first, options);

  std::vector<Token> longer = first;  // a conversation that goes on
  longer.insert(longer.end(), start.tokens.begin(), start.tokens.end());
  longer.push_back(Token{3});
  std::vector<Token> other = first;  // one that turns off
  other.resize(70), other.push_back(Token{95});
  const std::vector<std::pair<std::vector<Token>, std::int64_t>> cases{{longer, 109}, {other, 70}, {other, 70}, {first, 70}};
  for (const auto& [prompt, cached] : cases) {
    const Generation again = session.generate(prompt, options);
    Session fresh(fresh_engine);
    const Generation expected = fresh.generate(prompt, options);
    EXPECT_EQ(again.cached_tokens, cached);
    EXPECT_EQ(expected.cached_tokens, 0);
    EXPECT_EQ(ids(again.tokens), ids(expected.tokens));
  }
}

TEST(Session, SessionsOfOneEngineDoNotMix) {
  const auto checkpoint = tiny_checkpoint(tiny_config(), Format::kF32);
  Engine engine(checkpoint, EngineOptions{.threads = 2, .context = 512});
  GenerateOptions options = greedy();
  options.max_tokens = 8;
  const std::vector<Token> one = random_tokens(70, 96, 1), two = random_tokens(60, 96, 2);
  const auto alone = [&](const std::vector<Token>& prompt) {
    Session session(engine);
    return ids(session.generate(prompt, options).tokens);
  };
  const std::vector<int> expected_one = alone(one), expected_two = alone(two);
  Session first(engine), second(engine);
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(ids(first.generate(one, options).tokens), expected_one);
    EXPECT_EQ(ids(second.generate(two, options).tokens), expected_two);
  }
}

TEST(Session, LogprobsAreThoseOfScoring) {
  const auto checkpoint = tiny_checkpoint(tiny_config(), Format::kF32);
  Engine engine(checkpoint, EngineOptions{.threads = 1, .kv_format = Format::kF32, .context = 256, .logit_rows = 16});
  std::vector<Token> tokens = random_tokens(10, 96);
  GenerateOptions options;
  options.max_tokens = 12;
  options.top_logprobs = 2;
  const Generation generation = [&] {
    Session session(engine);
    return session.generate(tokens, options);
  }();
  ASSERT_EQ(generation.logprobs.size(), 12u);
  tokens.insert(tokens.end(), generation.tokens.begin(), generation.tokens.end());
  const std::vector<double> scores = score_tokens(engine, tokens);
  for (std::size_t i = 0; i < 12; ++i) {
    EXPECT_EQ(generation.logprobs[i].token, generation.tokens[i]);
    EXPECT_NEAR(generation.logprobs[i].logprob, scores[10 + i], 1e-4);
    ASSERT_EQ(generation.logprobs[i].top.size(), 2u);
    EXPECT_GE(generation.logprobs[i].top[0].second, generation.logprobs[i].logprob);
  }
}

TEST(Session, NamesEveryReason) {
  EXPECT_EQ(name(FinishReason::kEndToken), "end token");
  EXPECT_EQ(name(FinishReason::kStopString), "stop string");
  EXPECT_EQ(name(FinishReason::kStopToken), "stop token");
  EXPECT_EQ(name(FinishReason::kLength), "length");
  EXPECT_EQ(name(FinishReason::kContextFull), "context full");
  EXPECT_EQ(name(FinishReason::kInterrupted), "interrupted");
  EXPECT_EQ(name(FinishReason::kGrammarEnd), "grammar end");
}

// A trained model end to end: llama2.c and llama.cpp print these bytes for 200 greedy steps from an empty prompt.
TEST(Stories, GreedyTextIsThatOfOtherPrograms) {
  PUNA_NEEDS_SHARED("stories260K/stories260K.gguf");
  constexpr std::size_t kTextBytes = 463;  // a speed figure follows
  const std::string expected = read_text(shared_data("stories260K/stories260K_greedy200.txt")).substr(0, kTextBytes);
  const std::shared_ptr<const Checkpoint> checkpoint = open_checkpoint(shared_data("stories260K/stories260K.gguf"));
  for (const Format kv_format : {Format::kF32, Format::kF16}) {
    Engine engine(checkpoint, EngineOptions{.kv_format = kv_format});
    Session session(engine);
    GenerateOptions options = greedy();
    options.max_tokens = 200;
    const std::vector<Token> prompt{checkpoint->need_tokenizer().bos().value()};
    const Generation generation = session.generate(prompt, options);
    EXPECT_EQ(generation.text.substr(0, kTextBytes), expected) << info(kv_format).name;
  }
}

}  // namespace
}  // namespace puna
