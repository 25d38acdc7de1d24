// SPDX-License-Identifier: Apache-2.0
#include "server/answer_filter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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

}  // namespace
}  // namespace puna
