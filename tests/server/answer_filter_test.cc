// SPDX-License-Identifier: Apache-2.0
#include "server/answer_filter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "text/unicode.h"

namespace puna {
namespace {

const std::vector<Tool> kTools = {{.name = "look", .description = "", .parameters = Json::object()}};

struct Shown {
  std::vector<std::string> texts;
  std::string rest;
  Message message;
};

// The answer as it comes, a byte at a time.
Shown show(const std::string& answer, const std::vector<Tool>& tools, std::string_view format = "llama3.1") {
  AnswerFilter filter(*prompt_format_from_name(format), tools);
  Shown shown;
  for (const char byte : answer) {
    std::string text = filter.push(std::string(1, byte));
    if (!text.empty()) shown.texts.push_back(std::move(text));
  }
  AnswerFilter::Ended ended = filter.finish();
  shown.rest = ended.rest;
  shown.message = std::move(ended.message);
  return shown;
}

std::string all(const Shown& shown) {
  std::string text;
  for (const std::string& part : shown.texts) text += part;
  return text + shown.rest;
}

TEST(AnswerFilter, WithoutToolsEveryByteIsShownAtOnce) {
  const std::string answer = R"( {"name": "look", "parameters": {}} )";
  const Shown shown = show(answer, {});
  EXPECT_EQ(shown.texts.size(), answer.size());
  EXPECT_EQ(shown.message.content, answer);
  EXPECT_TRUE(shown.message.tool_calls.empty());
}

TEST(AnswerFilter, ACallIsNotShown) {
  for (const char* call : {R"({"name": "look", "parameters": {"at": 1}})",
                           R"(<|python_tag|>{"type": "function", "name": "look", "parameters": {"at": 1}})",
                           R"(<function=look>{"at": 1}</function>)", R"(  {"name": "look", "parameters": {"at": 1}})"}) {
    const Shown shown = show(call, kTools);
    EXPECT_EQ(all(shown), "") << call;
    ASSERT_EQ(shown.message.tool_calls.size(), 1u) << call;
    EXPECT_EQ(shown.message.tool_calls[0].arguments.at("at"), 1) << call;
  }
}

TEST(AnswerFilter, ProseIsShownWhileItComes) {
  const Shown shown = show("I like lists [1] and a < b, {braces} too.", kTools);
  EXPECT_EQ(all(shown), "I like lists [1] and a < b, {braces} too.");
  EXPECT_EQ(shown.rest, "");
  EXPECT_GT(shown.texts.size(), 25u);
}

TEST(AnswerFilter, WhatOnlyLooksLikeACallIsShownInTheEnd) {
  const std::string answer = R"(Write {"name": "nobody", "parameters": {}} there.)";
  const Shown shown = show(answer, kTools);
  EXPECT_EQ(all(shown), answer);
  EXPECT_TRUE(shown.message.tool_calls.empty());
}

TEST(AnswerFilter, TextBeforeACallIsShownWithoutTheSpaceBetween) {
  const Shown shown = show("Let me look.\n\n<function=look>{}</function>", kTools);
  EXPECT_EQ(all(shown), "Let me look.");
  EXPECT_EQ(shown.message.content, "Let me look.");
  EXPECT_EQ(shown.message.tool_calls.size(), 1u);
}

// What is shown of an answer that comes in pieces, which `ends` says the ends of; the last is the answer's.
std::string shown_in_pieces(const std::string& answer, const std::vector<std::size_t>& ends, const Message& whole) {
  AnswerFilter filter(*prompt_format_from_name("llama3.1"), kTools);
  std::string shown;
  std::size_t begin = 0;
  for (const std::size_t end : ends) {
    shown += filter.push(answer.substr(begin, end - begin));
    EXPECT_TRUE(whole.content.starts_with(shown)) << testing::PrintToString(answer) << " shows " << testing::PrintToString(shown);
    begin = end;
  }
  const AnswerFilter::Ended ended = filter.finish();
  EXPECT_EQ(ended.message.content, whole.content);
  EXPECT_EQ(ended.message.tool_calls.size(), whole.tool_calls.size());
  return shown + ended.rest;
}

// The whole answer, as parse_assistant() reads it, without white space before it.
Message read_whole(const std::string& answer) {
  Message whole = parse_assistant(*prompt_format_from_name("llama3.1"), answer, kTools);
  whole.content.erase(0, static_cast<std::size_t>(strip_space(whole.content).data() - whole.content.data()));
  return whole;
}

constexpr std::string_view kCall = R"({"name":"look","parameters":{}})";

TEST(AnswerFilter, WhatIsShownIsTheContentWhereverTheAnswerIsCut) {
  const std::string call(kCall);
  const std::vector<std::string> answers = {
      "\n\nSure.\n" + call + "\nDone",
      R"({"id":"1","name":"look","parameters":{}})",
      R"({"args":{},"name":"look"})",
      R"({"function":{"name":"look","arguments":{}}})",
      "```json\n" + call + "\n```",
      "\n\nLook at {\"name\": 1} here",
      "  " + call,
      "Sure:" + call,
      "a " + call + " b",
      "See [look()] x",
      "See [look()]",
      "[look(at=\"\\u00e9\")]\nDone",
      "x\n" + call + "\n\n\nthen y",
      "x   \n\n" + call + "   \ny  ",
      "Like so:\n```\n" + call + "\n```\n",
      "```\nprint(1)\n```",
      "```\n" + call + "\n``` is a call",
      "<|python_tag|>" + call,
      "One {\"a\": \"<|python_tag|>" + call,
      "<function=look>{\"at\": 1}</function> and on",
      "<function=nobody>{}</function>, <function=look>{}",
      "\u00a0Here\u3000\n" + call,
      "<|start_header_id|>assistant<|end_header_id|>\n\nSure.\n" + call + "<|eom_id|><|eot_id|>",
      "Sure. <|eot_id|> No.\n" + call,
      "",
      " \n ",
  };
  for (const std::string& answer : answers) {
    const Message whole = read_whole(answer);
    std::vector<std::size_t> bytes;
    for (std::size_t cut = 0; cut <= answer.size(); ++cut) {
      EXPECT_EQ(shown_in_pieces(answer, {cut, answer.size()}, whole), whole.content) << answer << " cut at " << cut;
      bytes.push_back(cut);
    }
    EXPECT_EQ(shown_in_pieces(answer, bytes, whole), whole.content) << answer;
  }
}

TEST(AnswerFilter, WhatIsShownIsTheContentOfAnyAnswer) {
  const std::vector<std::string> parts = {std::string(kCall),
                                          R"({"name": "look"})",
                                          R"({"name": "nobody", "parameters": {}})",
                                          R"({"args": {"a": [1, {}]}, "name": "look"})",
                                          "[look()]",
                                          "[look(a=\"",
                                          "\\u00",
                                          "\\U0001f6",
                                          "[nobody()]",
                                          "[",
                                          "{",
                                          "}",
                                          "]",
                                          "{\"",
                                          "\"",
                                          "\": ",
                                          "1",
                                          "true",
                                          ", ",
                                          "<",
                                          "<function=look>",
                                          "<function=",
                                          ">",
                                          "{}",
                                          "</function>",
                                          "<|python_tag|>",
                                          "<|",
                                          "<|eot_id|>",
                                          "</s>",
                                          "```",
                                          "```json\n",
                                          "`",
                                          "\n",
                                          "\n\n",
                                          " ",
                                          "  ",
                                          ";",
                                          "Sure",
                                          "word",
                                          ".",
                                          "é",
                                          "\u00a0",
                                          "\u3000",
                                          "<|start_header_id|>assistant<|end_header_id|>"};
  for (std::uint64_t seed = 0; seed < 20'000 && !testing::Test::HasFailure(); ++seed) {
    std::uint64_t drawn = 0;
    const auto draw = [&](std::size_t below) { return static_cast<std::size_t>(random_bits(seed, 1, drawn++) % below); };
    std::string answer;
    for (std::size_t count = draw(9); count > 0; --count) answer += parts[draw(parts.size())];
    const Message whole = read_whole(answer);
    std::vector<std::size_t> ends;
    for (std::size_t end = 0; end < answer.size(); ends.push_back(end)) end = std::min(answer.size(), end + 1 + draw(5));
    EXPECT_EQ(shown_in_pieces(answer, ends, whole), whole.content) << testing::PrintToString(answer);
  }
}

TEST(AnswerFilter, WhatIsNoCallIsShownBeforeTheAnswerEnds) {
  for (const char* answer : {R"(A point {"x": 1, "y": [2]} and more)", "A list [1, 2] and more", "```python\nprint({})\nand more",
                             "So:\n```json\n{\"name\":\"look\"}\nand more", "```\n{\"x\": 1}\n``` and more",
                             R"({"name": "nobody", "parameters": {}} and more)"}) {
    EXPECT_EQ(show(answer, kTools).rest, "") << answer;
  }
}

}  // namespace
}  // namespace puna
