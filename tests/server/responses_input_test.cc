// SPDX-License-Identifier: Apache-2.0
#include "server/responses_input.h"

#include <gtest/gtest.h>

#include "server/refusal.h"

namespace puna {
namespace {

Json read_input(const std::string& text) {
  const Json body = parse_request(text);
  check_fields(body, kResponsesFields);
  wants_logprobs(body);
  return chat_of_responses(body);
}

// The param of what reading throws.
std::string refused_input(const std::string& text) {
  return refused([&] { read_input(text); }).first;
}

TEST(ChatOfResponses, ATextIsTheUsersAndInstructionsAreTheSystems) {
  EXPECT_EQ(read_input(R"({"input": "a", "instructions": "Be brief."})").at("messages"),
            Json::parse(R"([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "a"}])"));
}

TEST(ChatOfResponses, ItemsBecomeMessages) {
  const Json chat = read_input(R"({"input": [{"role": "developer", "content": "d"},
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
    {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
     "content": [{"type": "output_text", "text": "Let me look.", "annotations": [], "logprobs": []}]},
    {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "look", "arguments": "{\"at\":1}", "status": "completed"},
    {"type": "function_call", "call_id": "c2", "name": "look", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "42"},
    {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "43"}]}]})");
  EXPECT_EQ(chat.at("messages"), Json::parse(R"([{"role": "developer", "content": "d"}, {"role": "user", "content": "ab"},
    {"role": "assistant", "content": "Let me look.", "tool_calls": [
      {"id": "c1", "type": "function", "function": {"name": "look", "arguments": {"at": 1}}},
      {"id": "c2", "type": "function", "function": {"name": "look", "arguments": {}}}]},
    {"role": "tool", "tool_call_id": "c1", "content": "42"}, {"role": "tool", "tool_call_id": "c2", "content": "43"}])"));
}

TEST(ChatOfResponses, CallsNeedNoTextBefore) {
  const Json chat = read_input(R"({"input": [{"role": "user", "content": "q"},
    {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}]})");
  EXPECT_EQ(chat.at("messages")[1].at("role"), "assistant");
  EXPECT_EQ(chat.at("messages")[1].at("tool_calls").size(), 1u);
}

TEST(ChatOfResponses, FlatFunctionsAndFormats) {
  const Json chat = read_input(R"({"input": "q", "tools": [{"type": "function", "name": "look", "parameters": {"type": "object"},
    "strict": true}], "tool_choice": {"type": "function", "name": "look"}, "parallel_tool_calls": false})");
  EXPECT_EQ(chat.at("tools"), Json::parse(R"([{"type": "function", "function": {"name": "look", "parameters": {"type": "object"},
    "strict": true}}])"));
  EXPECT_EQ(chat.at("tool_choice"), Json::parse(R"({"type": "function", "function": {"name": "look"}})"));
  EXPECT_EQ(chat.at("parallel_tool_calls"), false);
  const Json shaped =
      read_input(R"({"input": "q", "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}}})");
  EXPECT_EQ(shaped.at("response_format").at("json_schema").at("schema"), Json::parse(R"({"type": "object"})"));
}

TEST(ChatOfResponses, RefusesWhatItCannotDoByName) {
  const auto with = [](const std::string& field) { return R"({"input": "q", )" + field + "}"; };
  EXPECT_EQ(refused_input(with(R"("previous_response_id": "resp_1")")), "previous_response_id");
  EXPECT_EQ(refused_input(with(R"("conversation": {"id": "c"})")), "conversation");
  EXPECT_EQ(refused_input(with(R"("prompt": {"id": "p"})")), "prompt");
  EXPECT_EQ(refused_input(with(R"("background": true)")), "background");
  EXPECT_EQ(refused_input(with(R"("store": true)")), "store");
  EXPECT_EQ(refused_input(with(R"("store": false, "background": false, "previous_response_id": null, "reasoning": null)")),
            "nothing");
  EXPECT_EQ(refused_input(with(R"("truncation": "auto")")), "truncation");
  EXPECT_EQ(refused_input(with(R"("include": ["file_search_call.results"])")), "include");
  EXPECT_EQ(refused_input(with(R"("include": ["reasoning.encrypted_content", "message.output_text.logprobs"])")), "nothing");
  EXPECT_EQ(refused_input(with(R"("tools": [{"type": "web_search"}])")), "tools[0].type");
  EXPECT_EQ(refused_input(with(R"("tools": [{"type": "function"}])")), "tools[0].name");
  EXPECT_EQ(refused_input(with(R"("tool_choice": "any")")), "tool_choice");
  EXPECT_EQ(refused_input(with(R"("tool_choice": {"type": "file_search"})")), "tool_choice.type");
  EXPECT_EQ(refused_input(with(R"("text": {"format": {"type": "xml"}})")), "text.format.type");
  EXPECT_EQ(refused_input(with(R"("text": {"format": {"type": "json_schema", "name": "n"}})")), "text.format.schema");
  EXPECT_EQ(refused_input(with(R"("reasoning": {"tokens": 3})")), "reasoning.tokens");
  EXPECT_EQ(refused_input(with(R"("max_tokens": 3)")), "max_tokens");
  EXPECT_EQ(refused_input(R"({"input": []})"), "input");
  EXPECT_EQ(refused_input(R"({"instructions": "a"})"), "input");
  EXPECT_EQ(refused_input(R"({"input": [{"role": "tool", "content": "a"}]})"), "input[0].role");
  EXPECT_EQ(refused_input(R"({"input": [{"role": "user", "content": [{"type": "input_image"}]}]})"), "input[0].content[0].type");
  EXPECT_EQ(refused_input(R"({"input": [{"type": "item_reference", "id": "x"}]})"), "input[0].type");
  EXPECT_EQ(refused_input(R"({"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "[]"}]})"),
            "input[0].arguments");
}

}  // namespace
}  // namespace puna
