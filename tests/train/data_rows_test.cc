// SPDX-License-Identifier: Apache-2.0
// Rows of every kind, as their formats are published, and what is said of those that are wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "expect_error.h"
#include "train/data/row.h"
#include "train/data/row_answers.h"
#include "train/data/row_index.h"

namespace puna {
namespace {

using testing::ElementsAre;

// "user: hi | assistant*: ho", an asterisk where a message may be trained, calls in brackets.
std::string told(const std::vector<Message>& messages, const std::vector<bool>& trained = {}) {
  constexpr const char* kNames[] = {"system", "user", "assistant", "tool"};
  std::string text;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    text += (i == 0 ? "" : " | ") + std::string(kNames[static_cast<int>(messages[i].role)]);
    if (i < trained.size() && trained[i]) text += "*";
    text += ": " + messages[i].content;
    for (const ToolCall& call : messages[i].tool_calls) text += "[" + call.name + dump_json(call.arguments) + "]";
  }
  return text;
}

std::string read(DataKind kind, const std::string& json) {
  const Row row = read_json_row(kind, json, false);
  std::string text = told(row.messages, row.trained);
  for (const auto& answer : row.answers) text += " => " + told(answer);
  return text;
}

std::string plain(DataKind kind, const std::string& json) {
  const Row row = read_json_row(kind, json, true);
  std::string text;
  for (const TextPart& part : row.parts) text += (part.trained ? "«" : "[") + part.text + (part.trained ? "»" : "]");
  for (const std::string& answer : row.text_answers) text += " => " + answer;
  return text;
}

void expect_row_refused(DropReason reason, const std::string& message, DataKind kind, const std::string& json) {
  try {
    read_json_row(kind, json, false);
    ADD_FAILURE() << json << " was accepted, expected: " << message;
  } catch (const RowError& error) {
    EXPECT_EQ(describe(error.reason()), describe(reason)) << error.what();
    EXPECT_THAT(error.what(), testing::HasSubstr(message));
  }
}

TEST(DataRows, OpenAiMessages) {
  EXPECT_EQ(read(DataKind::kMessages, R"({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"},
      {"role": "assistant", "content": "a", "weight": 0}, {"role": "user", "content": "r"},
      {"role": "assistant", "content": "b", "weight": 1}]})"),
            "system: s | user: q | assistant: a | user: r | assistant*: b");
  const Row row = read_json_row(DataKind::kMessages, R"({"messages": [{"role": "user", "content": "q"},
      {"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "function",
        "function": {"name": "f", "arguments": "{\"x\": 2}"}}]},
      {"role": "tool", "tool_call_id": "1", "content": "r"}, {"role": "assistant", "content": "b"}],
      "tools": [{"type": "function", "function": {"name": "f", "description": "does", "parameters": {"type": "object"}}}],
      "builtin_tools": ["brave_search"]})",
                                false);
  EXPECT_EQ(told(row.messages, row.trained), "user: q | assistant*: [f{\"x\":2}] | tool: r | assistant*: b");
  ASSERT_EQ(row.tools.size(), 1U);
  EXPECT_EQ(row.tools[0].description, "does");
  EXPECT_THAT(row.builtin_tools, ElementsAre("brave_search"));
  const Row text = read_json_row(DataKind::kMessages,
                                 R"({"messages": [{"role": "user", "content": "q"}], "tools": "[{\"name\": \"g\"}]"})", false);
  EXPECT_EQ(text.tools.at(0).name, "g");  // a list that is written as a text
}

TEST(DataRows, ShareGpt) {
  EXPECT_EQ(read(DataKind::kShareGpt, R"({"system": "s", "conversations": [{"from": "human", "value": "q"},
      {"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {\"x\": 1}}"}, {"from": "observation", "value": "r"},
      {"from": "gpt", "value": "a"}, {"from": "gpt", "value": "b", "weight": 0}]})"),
            "system: s | user: q | assistant*: [f{\"x\":1}] | tool: r | assistant*: a | assistant: b");
  EXPECT_EQ(
      read(DataKind::kShareGpt, R"({"conversations": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]})"),
      "user: q | assistant*: a");
}

TEST(DataRows, InstructionsAndCompletions) {
  EXPECT_EQ(read(DataKind::kInstruction, R"({"instruction": "add", "input": "1 2", "output": "3"})"),
            "user: add\n\n1 2 | assistant*: 3");
  EXPECT_EQ(read(DataKind::kInstruction, R"({"instruction": "hi", "input": "", "output": "ho"})"), "user: hi | assistant*: ho");
  EXPECT_EQ(read(DataKind::kCompletion, R"({"prompt": "hi", "completion": "ho"})"), "user: hi | assistant*: ho");
  EXPECT_EQ(read(DataKind::kCompletion, R"({"question": "hi", "answer": "ho"})"), "user: hi | assistant*: ho");
  EXPECT_EQ(plain(DataKind::kCompletion, R"({"prompt": "hi", "completion": " ho"})"), "[hi]« ho»");
  EXPECT_EQ(read(DataKind::kCompletion, R"({"prompt": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"},
      {"role": "user", "content": "r"}], "completion": [{"role": "assistant", "content": "b"}]})"),
            "user: q | assistant: a | user: r | assistant*: b");
  EXPECT_EQ(plain(DataKind::kTextRows, R"({"text": "hä"})"), "«hä»");
}

TEST(DataRows, PreferencesWithAPrompt) {
  EXPECT_EQ(read(DataKind::kPreference, R"({"prompt": "q", "chosen": "a", "rejected": "b"})"),
            "user: q => assistant: a => assistant: b");
  EXPECT_EQ(plain(DataKind::kPreference, R"({"prompt": "q", "chosen": " a", "rejected": " b"})"), "[q] =>  a =>  b");
  EXPECT_EQ(read(DataKind::kPreference, R"({"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}],
      "chosen": [{"role": "assistant", "content": "a"}], "rejected": [{"role": "assistant", "content": "b"}]})"),
            "system: s | user: q => assistant: a => assistant: b");
  EXPECT_EQ(read(DataKind::kRanked,
                 R"({"prompt": "q", "answers": ["edited", "chosen", [{"role": "assistant", "content": "rejected"}]]})"),
            "user: q => assistant: edited => assistant: chosen => assistant: rejected");
}

TEST(DataRows, PreferencesThatHideTheirPrompt) {
  const std::string whole = R"("chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
      "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}])";
  EXPECT_EQ(read(DataKind::kPreference, "{" + whole + "}"), "user: q => assistant: a => assistant: b");
  EXPECT_EQ(read(DataKind::kPreference, R"({"prompt": "q", )" + whole + "}"), "user: q => assistant: a => assistant: b");
  EXPECT_EQ(read(DataKind::kPreference, R"({"chosen": "\n\nHuman: q\n\nAssistant: a\n\nHuman: r\n\nAssistant: b",
                                            "rejected": "\n\nHuman: q\n\nAssistant: a\n\nHuman: r\n\nAssistant: c"})"),
            "user: q | assistant: a | user: r => assistant: b => assistant: c");
  EXPECT_EQ(plain(DataKind::kPreference, R"({"chosen": "The sky is blue.", "rejected": "The sky is black."})"),
            "[The sky is] =>  blue. =>  black.");
}

TEST(DataRows, SayWhatIsWrong) {
  using enum DropReason;
  expect_row_refused(kBrokenJson, "not valid JSON at byte 12", DataKind::kTextRows, R"({"text": "a)");
  expect_row_refused(kWrongType, "the row is of type array, expected an object", DataKind::kTextRows, "[1]");
  expect_row_refused(kMissingField, "\"text\" is missing", DataKind::kTextRows, R"({"txt": "a"})");
  expect_row_refused(kWrongType, "\"text\" is of type number, expected a text", DataKind::kTextRows, R"({"text": 3})");
  expect_row_refused(kMissingField, "\"messages\" is missing", DataKind::kMessages, R"({"messages": null})");
  expect_row_refused(kWrongType, "\"messages\" is of type string, expected a list of messages", DataKind::kMessages,
                     R"({"messages": "a"})");
  expect_row_refused(kConversation, "\"messages\" is an empty list", DataKind::kMessages, R"({"messages": []})");
  expect_row_refused(kConversation, "the role \"robot\" is unknown", DataKind::kMessages, R"({"messages": [{"role": "robot"}]})");
  expect_row_refused(kConversation, "[messages: message 0] the key \"role\" is missing", DataKind::kMessages,
                     R"({"messages": [3]})");
  expect_row_refused(kWrongType, "message 0: \"weight\" is 0.5, expected 0 or 1", DataKind::kMessages,
                     R"({"messages": [{"role": "assistant", "content": "a", "weight": 0.5}]})");
  expect_row_refused(kConversation, "expected a list, or an object with the list under \"tools\"", DataKind::kMessages,
                     R"({"messages": [{"role": "user", "content": "a"}], "tools": 3})");
  expect_row_refused(kWrongType, "\"builtin_tools\" is not a list of names", DataKind::kMessages,
                     R"({"messages": [{"role": "user", "content": "a"}], "builtin_tools": [1]})");
  expect_row_refused(kConversation, "message 0: \"from\" is \"alien\", expected human, gpt", DataKind::kShareGpt,
                     R"({"conversations": [{"from": "alien", "value": "a"}]})");
  expect_row_refused(kWrongType, "message 0 is not an object", DataKind::kShareGpt, R"({"conversations": [1]})");
  expect_row_refused(kConversation, "[function_call] the value is number, expected an object", DataKind::kShareGpt,
                     R"({"conversations": [{"from": "function_call", "value": "3"}]})");
  expect_row_refused(kMissingField, "\"output\" is missing", DataKind::kInstruction, R"({"instruction": "a"})");
  expect_row_refused(kMissingField, "\"completion\" is missing", DataKind::kCompletion, R"({"prompt": "a"})");
}

TEST(DataRows, SayWhatIsWrongWithAnswers) {
  using enum DropReason;
  expect_row_refused(kMissingField, "\"rejected\" is missing", DataKind::kPreference, R"({"prompt": "q", "chosen": "a"})");
  expect_row_refused(kEqualAnswers, "are the same conversation", DataKind::kPreference,
                     R"({"chosen": [{"role": "user", "content": "q"}], "rejected": [{"role": "user", "content": "q"}]})");
  expect_row_refused(kEqualAnswers, "are the same text", DataKind::kPreference, R"({"chosen": "a b", "rejected": "a b"})");
  expect_row_refused(kConversation, "have no beginning in common", DataKind::kPreference,
                     R"({"chosen": "abc", "rejected": "abd"})");
  expect_row_refused(kConversation, "do not begin with the same message", DataKind::kPreference,
                     R"({"chosen": [{"role": "user", "content": "q"}], "rejected": [{"role": "user", "content": "p"}]})");
  expect_row_refused(kConversation, "answer 2 has no message of its own behind the prompt", DataKind::kPreference,
                     R"({"chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
                     "rejected": [{"role": "user", "content": "q"}]})");
  expect_row_refused(kConversation, "answer 1 does not begin and end with the assistant's message", DataKind::kPreference,
                     R"({"prompt": "q", "chosen": [{"role": "user", "content": "a"}], "rejected": "b"})");
  expect_row_refused(kWrongType, "\"answers\" is not a list of two or more answers", DataKind::kRanked,
                     R"({"prompt": "q", "answers": ["a"]})");
  expect_row_refused(kWrongType, "\"chosen\" is of type number, expected a list of messages", DataKind::kPreference,
                     R"({"prompt": "q", "chosen": 3, "rejected": "b"})");
}

DataKind recognise(const std::vector<std::string_view>& rows) { return recognise_rows(rows, "some.jsonl"); }

TEST(DataRows, AreRecognisedByTheirFields) {
  EXPECT_EQ(recognise({"{", "3", R"({"text": 1})"}), DataKind::kTextRows);  // the first that can be told
  EXPECT_EQ(recognise({R"({"id": 1, "messages": []})"}), DataKind::kMessages);
  EXPECT_EQ(recognise({R"({"conversations": []})"}), DataKind::kShareGpt);
  EXPECT_EQ(recognise({R"({"instruction": "", "output": "", "text": ""})"}), DataKind::kInstruction);
  EXPECT_EQ(recognise({R"({"question": "", "answer": ""})"}), DataKind::kCompletion);
  EXPECT_EQ(recognise({R"({"prompt": "", "chosen": "", "rejected": "", "messages": []})"}), DataKind::kPreference);
  EXPECT_EQ(recognise({R"({"prompt": "", "answers": []})"}), DataKind::kRanked);
  expect_error(ErrorKind::kBadInput, "[some.jsonl] cannot tell what the rows hold: the first has the fields \"a\", \"b\"; expected",
               [] {
                 recognise({R"({"a": 1, "b": 2})", R"({"c": 1})"});
               });
  expect_error(ErrorKind::kBadInput, "the first ones are not JSON objects", [] { recognise({"x"}); });
  expect_error(ErrorKind::kBadInput, "[some.jsonl] the file has no rows", [] { recognise({}); });
}

TEST(DataRows, TextMustBeUtf8) {
  EXPECT_EQ(read_text_row("hä").parts.at(0).text, "hä");
  EXPECT_THROW(read_text_row("a\xFFz"), RowError);
}

TEST(DataRowIndex, FindsLinesBlocksAndParts) {
  EXPECT_THAT(line_offsets("a\n\n  \nb\r\nc"), ElementsAre(0, 6, 9, 10));
  EXPECT_THAT(line_offsets(""), ElementsAre(0));
  EXPECT_THAT(line_offsets("\n \n"), ElementsAre(3));
  EXPECT_THAT(block_offsets("\na\nb\n \n\nc\n"), ElementsAre(1, 8, 10));
  EXPECT_THAT(part_offsets("", 4), ElementsAre(0));
  EXPECT_THAT(part_offsets("abcd", 4), ElementsAre(0, 4));
  EXPECT_THAT(part_offsets("a\n\nb\nc\n", 4), ElementsAre(0, 3, 7));      // not between the line ends
  EXPECT_THAT(part_offsets("abä\xC3\xB6z", 3), ElementsAre(0, 2, 4, 7));  // not inside a character
}

TEST(DataRowIndex, FindsElementsOfAnArray) {
  const std::string text = R"( [ {"a": "],[\""}, [1, [2]] ,3 ] )";
  const auto offsets = element_offsets(text, "x");
  ASSERT_EQ(offsets.size(), 4U);
  EXPECT_EQ(text.substr(offsets[0], offsets[1] - offsets[0]), R"({"a": "],[\""}, )");
  EXPECT_EQ(text.substr(offsets[1], offsets[2] - offsets[1]), "[1, [2]] ,");
  EXPECT_EQ(text.substr(offsets[2], offsets[3] - offsets[2]), "3 ");
  EXPECT_EQ(element_offsets("[]", "x").size(), 1U);
  for (const char* open : {"[", "[1", "[1,", "[{]", "[\"", "[1}", "[1, 2"}) {
    expect_error(ErrorKind::kBadInput, "[x] the JSON array is not closed", [&] { element_offsets(open, "x"); });
  }
  expect_error(ErrorKind::kBadInput, "there is text behind the JSON array, at byte 4", [] { element_offsets("[1]\n[2]", "x"); });
}

}  // namespace
}  // namespace puna
