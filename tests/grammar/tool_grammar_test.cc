// SPDX-License-Identifier: Apache-2.0
// Calls of tools under a grammar: what it allows is read back as the call by parse_assistant().
#include "grammar/tool_grammar.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/random.h"
#include "grammar/grammar_walk.h"
#include "grammar/schema_validator.h"

namespace puna {
namespace {

std::vector<Tool> tools() {
  return {
      {"get_weather", "",
       parse_json(R"({"type": "object", "properties": {"city": {"type": "string", "maxLength": 8}, "days": {"$ref": "#/$defs/d"}},
                                              "required": ["city"], "$defs": {"d": {"type": "integer", "minimum": 1, "maximum": 9}}})",
                  "t")},
      {"get", "", parse_json(R"({"properties": {"on": {"type": "boolean"}}, "additionalProperties": false})", "t")},
      {"stop", "", Json::object()}};
}

PromptFormat format(const char* name) { return *prompt_format_from_name(name); }

TEST(ToolGrammar, HoldsCallsOfTheTools) {
  GrammarWalk walk(tool_call_grammar(format("llama3.1"), tools()));
  for (const char* text :
       {R"({"name": "get_weather", "parameters": {"city": "Lima"}})", R"({"name":"get_weather","parameters":{"city":"","days":3}})",
        R"({"name": "get", "parameters": {"on": true}})", R"({"name": "get", "parameters": {}})",
        R"({"name": "stop", "parameters": {"any": ["thing"]}})", "{\n  \"name\": \"stop\",\n  \"parameters\": {}\n}"})
    EXPECT_TRUE(walk.accepts(text)) << text;
  for (const char* text :
       {R"({"name": "get_weather", "parameters": {}})", R"({"name": "get_weather", "parameters": {"city": 1}})",
        R"({"name": "get_weather", "parameters": {"city": "x", "days": 10}})", R"({"name": "other", "parameters": {}})",
        R"({"name": "get", "parameters": {"city": "x"}})", R"({"name": "get", "parameters": []})", R"({"name": "get"})",
        R"({"name": "stop", "parameters": 5})", "get()", ""})
    EXPECT_FALSE(walk.accepts(text)) << text;
}

TEST(ToolGrammar, HoldsCallsOfTheOneThatIsNamed) {
  GrammarWalk walk(tool_call_grammar(format("llama3.1"), tools(), "get"));
  EXPECT_TRUE(walk.accepts(R"({"name": "get", "parameters": {"on": false}})"));
  EXPECT_FALSE(walk.begins(R"({"name": "get_)"));
  EXPECT_FALSE(walk.begins(R"({"name": "s)"));
}

TEST(ToolGrammar, SpeaksTheModelsDialect) {
  GrammarWalk tagged(tool_call_grammar(format("llama3.1-function"), tools()));
  EXPECT_TRUE(tagged.accepts(R"(<function=get>{"on": true}</function>)"));
  EXPECT_FALSE(tagged.begins("{"));
  GrammarWalk typed(tool_call_grammar(format("llama3.1-meta"), tools()));
  EXPECT_TRUE(typed.accepts(R"({"type": "function", "name": "get", "parameters": {"on": true}})"));
  EXPECT_FALSE(typed.accepts(R"({"name": "get", "parameters": {"on": true}})"));
}

// Texts drawn byte by byte are read as a call of a tool, with arguments that its schema allows.
TEST(ToolGrammar, IsReadBackAsTheCall) {
  const std::vector<Tool> all = tools();
  std::vector<std::string> pieces = json_pieces();
  const PieceTokenizer tokenizer(pieces);
  const auto vocabulary = std::make_shared<const VocabularyIndex>(tokenizer);
  for (const char* name : {"llama3.1", "llama3.1-function", "llama3.1-meta"}) {
    Constraint constraint(shared(tool_call_grammar(format(name), all)), vocabulary);
    int called = 0;
    for (std::uint64_t round = 0; round < 200; ++round) {
      constraint.restart();
      std::string text;
      for (std::uint64_t step = 0; step < 400 && !constraint.may_end(); ++step) {
        const auto mask = constraint.mask();
        std::vector<int> choices;
        for (int token = 0; token < tokenizer.size(); ++token) {
          const bool closes =
              step > 60 && (pieces[static_cast<std::size_t>(token)] == "\"" || pieces[static_cast<std::size_t>(token)] == "}" ||
                            pieces[static_cast<std::size_t>(token)] == "]");
          if ((mask[static_cast<std::size_t>(token) / 32] >> (token % 32) & 1u) != 0)
            choices.insert(choices.end(), closes ? 200 : 1, token);
        }
        ASSERT_FALSE(choices.empty()) << text;
        const Token token{choices[random_bits(31, round, step) % choices.size()]};
        ASSERT_TRUE(constraint.advance(token));
        text += tokenizer.piece(token);
      }
      if (!constraint.may_end()) continue;
      const Message message = parse_assistant(format(name), text, all);
      ASSERT_EQ(message.tool_calls.size(), 1u) << text;
      const ToolCall& call = message.tool_calls.front();
      const auto tool = std::ranges::find_if(all, [&](const Tool& t) { return t.name == call.name; });
      ASSERT_NE(tool, all.end());
      EXPECT_TRUE(SchemaValidator(tool->parameters).valid(call.arguments)) << text;
      ++called;
    }
    EXPECT_GT(called, 100) << name;
  }
}

// Where a call is left to the model, all else is text: JSON that is no call, and whatever begins with "<" and is none.
TEST(ToolGrammar, LeavesOtherTextsAsTheyAre) {
  for (const char* name : {"llama3.1", "llama3.1-function", "llama3.1-meta"}) {
    GrammarWalk walk(call_or_text_grammar(format(name), tools()));
    for (const char* text :
         {"", "Yes.", " [1, 2]", R"({"answer": 42})", R"({"names": ["a"]})", R"({"nam": 1})", "{}", "{ }", "{", "{x}",
          "{\n  \"result\": {\"name\": \"get\"}}", "<b>bold</b>", "<think>", "<function>", "<", R"({")"}) {
      EXPECT_TRUE(walk.accepts(text)) << name << ": " << text;
    }
    for (const char* text : {R"({"name": "other")", R"({"parameters":)", R"({"type": 5)", R"({"n\u0061me")", " <function=other",
                             R"({"function": {)", R"({"name": "get", "parameters": {"on": 1})"}) {
      EXPECT_FALSE(walk.begins(text)) << name << ": " << text;
    }
  }
  EXPECT_TRUE(
      GrammarWalk(call_or_text_grammar(format("llama3.1"), tools())).accepts(R"({"name": "get", "parameters": {"on": true}})"));
}

TEST(ToolGrammar, SaysWhatItCannotDo) {
  expect_error(ErrorKind::kUsage, "there are no tools", [] { tool_call_grammar(format("llama3.1"), {}); });
  expect_error(ErrorKind::kUsage, "there is no tool 'get_wether': did you mean get_weather?",
               [] { tool_call_grammar(format("llama3.1"), tools(), "get_wether"); });
  expect_error(ErrorKind::kUnsupported, "calls in Python's form (llama3.2-pythonic)",
               [] { tool_call_grammar(format("llama3.2-pythonic"), tools()); });
  const std::vector<Tool> odd = {{"f", "", parse_json(R"({"properties": {"a": {"not": {"type": "string"}}}})", "t")}};
  expect_error(ErrorKind::kUnsupported, "[tool f#/properties/a/not]", [&] { tool_call_grammar(format("llama3.1"), odd); });
  const std::vector<Tool> quoted = {{"f>", "", Json::object()}};
  expect_error(ErrorKind::kUnsupported, "[tool f>]", [&] { tool_call_grammar(format("llama3.1-function"), quoted); });
}

}  // namespace
}  // namespace puna
