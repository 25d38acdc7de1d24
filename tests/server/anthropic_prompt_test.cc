// SPDX-License-Identifier: Apache-2.0
#include "server/anthropic_prompt.h"

#include <gtest/gtest.h>

#include "server/refusal.h"

namespace puna {
namespace {

AnthropicRequest read(const std::string& text) {
  const Json body = parse_request(text);
  check_fields(body, kAnthropicPromptFields);
  return read_anthropic(body);
}

// The param of what reading throws.
std::string refused_field(const std::string& text) {
  return refused([&] { read(text); }).first;
}

TEST(ReadAnthropic, BringsTextsIntoOpenAisShape) {
  const AnthropicRequest request = read(R"({"system": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}],
    "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": [{"type": "text", "text": "b"}]},
                 {"role": "user", "content": [{"type": "text", "text": "c", "cache_control": {"type": "ephemeral"}},
                                              {"type": "text", "text": "d"}]}]})");
  EXPECT_EQ(request.chat.at("messages"),
            Json::parse(R"([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "a"},
    {"role": "assistant", "content": "b"}, {"role": "user", "content": "cd"}])"));
  EXPECT_EQ(request.prefill, "");
}

TEST(ReadAnthropic, CallsAndResultsAreMessagesOfTheirOwn) {
  const AnthropicRequest request = read(R"({"messages": [{"role": "user", "content": "q"},
    {"role": "assistant", "content": [{"type": "text", "text": "Let me look."},
                                      {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": 1}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "42"}]},
                                 {"type": "text", "text": "and?"}]}]})");
  EXPECT_EQ(request.chat.at("messages"), Json::parse(R"([{"role": "user", "content": "q"},
    {"role": "assistant", "content": "Let me look.",
     "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "look", "arguments": {"at": 1}}}]},
    {"role": "tool", "tool_call_id": "t1", "content": "42"}, {"role": "user", "content": "and?"}])"));
}

TEST(ReadAnthropic, ToolsAndChoices) {
  const std::string beginning = R"({"messages": [{"role": "user", "content": "q"}], "tools": [{"type": "custom", "name": "look",
    "description": "Look.", "input_schema": {"type": "object"}}], "tool_choice": )";
  const Json chat = read(beginning + R"({"type": "tool", "name": "look", "disable_parallel_tool_use": true}})").chat;
  EXPECT_EQ(chat.at("tools"), Json::parse(R"([{"type": "function", "function": {"name": "look", "parameters": {"type": "object"},
    "description": "Look."}}])"));
  EXPECT_EQ(chat.at("tool_choice"), Json::parse(R"({"type": "function", "function": {"name": "look"}})"));
  EXPECT_EQ(chat.at("parallel_tool_calls"), false);
  EXPECT_EQ(read(beginning + R"({"type": "any"}})").chat.at("tool_choice"), "required");
  EXPECT_EQ(read(beginning + R"({"type": "none"}})").chat.at("tool_choice"), "none");
  EXPECT_EQ(refused_field(beginning + R"({"type": "some"}})"), "tool_choice.type");
  EXPECT_EQ(refused_field(beginning + R"({"type": "tool"}})"), "tool_choice.name");
}

TEST(ReadAnthropic, ALastMessageOfTheAssistantsBeginsTheAnswer) {
  const AnthropicRequest request =
      read(R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "The answer is"}]})");
  EXPECT_EQ(request.prefill, "The answer is");
  EXPECT_EQ(request.chat.at("messages").size(), 1u);
  EXPECT_EQ(refused_field(R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "It is "}]})"),
            "messages");
  EXPECT_EQ(refused_field(R"({"messages": [{"role": "user", "content": "q"},
    {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {}}]}]})"),
            "messages");
}

TEST(ReadAnthropic, ASchemaIsAResponseFormat) {
  const Json chat = read(R"({"messages": [{"role": "user", "content": "q"}],
    "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}})")
                        .chat;
  EXPECT_EQ(chat.at("response_format").at("json_schema").at("schema"), Json::parse(R"({"type": "object"})"));
}

TEST(ReadAnthropic, RefusesWhatItCannotDoByName) {
  const auto message = [](const std::string& content) { return R"({"messages": [{"role": "user", "content": )" + content + "}]}"; };
  EXPECT_EQ(refused_field(message(R"([{"type": "image", "source": {}}])")), "messages[0].content[0].type");
  EXPECT_EQ(refused_field(message(R"([{"type": "text", "text": "a"}, {"type": "document"}])")), "messages[0].content[1].type");
  EXPECT_EQ(refused_field(message(R"([{"type": "text"}])")), "messages[0].content[0].text");
  EXPECT_EQ(refused_field(message(R"([{"type": "text", "text": 1}])")), "messages[0].content[0].text");
  EXPECT_EQ(refused_field(message(R"([{"text": "a"}])")), "messages[0].content[0].type");
  EXPECT_EQ(refused_field(message("[1]")), "messages[0].content[0]");
  EXPECT_EQ(refused_field(message("[]")), "messages");
  EXPECT_EQ(refused_field(message("null")), "messages[0].content");
  EXPECT_EQ(refused_field(message(R"([{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image"}]}])")),
            "messages[0].content[0].content[0].type");
  EXPECT_EQ(refused_field(R"({"messages": [{"role": "system", "content": "a"}]})"), "messages[0].role");
  EXPECT_EQ(refused_field(R"({"messages": [1]})"), "messages[0]");
  EXPECT_EQ(refused_field(R"({"messages": []})"), "messages");
  EXPECT_EQ(
      refused_field(R"({"messages": [{"role": "user", "content": "q"}], "thinking": {"type": "enabled", "budget_tokens": 1024}})"),
      "thinking");
  EXPECT_EQ(refused_field(R"({"messages": [{"role": "user", "content": "q"}], "thinking": {"type": "disabled"}})"), "nothing");
  EXPECT_EQ(
      refused_field(R"({"messages": [{"role": "user", "content": "q"}], "tools": [{"type": "bash_20250124", "name": "bash"}]})"),
      "tools[0].type");
  EXPECT_EQ(refused_field(R"({"messages": [{"role": "user", "content": "q"}], "tools": [{"name": "look"}]})"),
            "tools[0].input_schema");
  EXPECT_EQ(refused_field(R"({"messages": [{"role": "user", "content": "q"}], "container": "x"})"), "container");
}

}  // namespace
}  // namespace puna
