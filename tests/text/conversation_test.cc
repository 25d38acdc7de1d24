// SPDX-License-Identifier: Apache-2.0
#include "text/conversation.h"

#include <gtest/gtest.h>

#include "expect_error.h"

namespace puna {
namespace {

std::vector<Message> messages(const std::string& json) { return messages_from_json(parse_json(json, "chat.json"), "chat.json"); }
std::vector<Tool> tools(const std::string& json) { return tools_from_json(parse_json(json, "tools.json"), "tools.json"); }

TEST(Messages, ComeBackAsTheyWereWritten) {
  const auto read = messages(R"({"messages": [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Weather "}, {"type": "text", "text": "in Lima?"}]},
    {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function",
      "function": {"name": "weather", "arguments": "{\"city\": \"Lima\", \"days\": 2}"}}]},
    {"role": "tool", "tool_call_id": "c1", "content": "17 degrees"}]})");
  ASSERT_EQ(read.size(), 4U);
  EXPECT_EQ(read[1].content, "Weather in Lima?");
  EXPECT_EQ(read[2].tool_calls.at(0).name, "weather");
  EXPECT_EQ(read[2].tool_calls.at(0).arguments.at("days"), 2);
  EXPECT_EQ(read[3].role, Role::kTool);
  EXPECT_EQ(read[3].tool_call_id, "c1");
  const Json written = messages_to_json(read);
  EXPECT_EQ(messages_to_json(messages_from_json(written, "again")), written);
  EXPECT_EQ(dump_json(written.at(2).at("tool_calls")), R"([{"name":"weather","arguments":{"city":"Lima","days":2},"id":"c1"}])");
}

TEST(Messages, SayWhatIsWrongAndWhere) {
  expect_error(ErrorKind::kBadInput, "[chat.json: message 0] the key \"role\" is missing", [] { messages("[{}]"); });
  expect_error(ErrorKind::kBadInput, "the role \"robot\" is unknown", [] { messages(R"([{"role": "robot"}])"); });
  expect_error(ErrorKind::kBadInput, "\"content\" is number", [] { messages(R"([{"role": "user", "content": 3}])"); });
  expect_error(ErrorKind::kUnsupported, "a part of type \"image_url\": only text can be read",
               [] { messages(R"([{"role": "user", "content": [{"type": "image_url"}]}])"); });
  expect_error(ErrorKind::kBadInput, "expected a list", [] { messages("{}"); });
  expect_error(ErrorKind::kBadInput, "[chat.json: message 0: arguments] not valid JSON",
               [] { messages(R"([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}])"); });
}

TEST(Tools, OfOpenAisShapeOrBare) {
  const auto read = tools(R"([{"type": "function", "function": {"name": "a", "parameters": {"type": "object"}}},
                              {"name": "b", "description": "second"}])");
  ASSERT_EQ(read.size(), 2U);
  EXPECT_EQ(read[0].parameters.at("type"), "object");
  EXPECT_EQ(read[1].description, "second");
  EXPECT_TRUE(read[1].parameters.is_object());
  expect_error(ErrorKind::kBadInput, "[tools.json: tool 0] \"parameters\" is not an object",
               [] { tools(R"([{"name": "a", "parameters": []}])"); });
  expect_error(ErrorKind::kBadInput, "[tools.json: tool 0] the key \"name\" is missing", [] { tools("[{}]"); });
}

}  // namespace
}  // namespace puna
