// SPDX-License-Identifier: Apache-2.0
// What a model's answer says. Cases marked "reference" are those of llama-models' tool_utils.py and its tests; the others are
// answers that the reference drops or misreads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>

#include "base/random.h"
#include "text/chat.h"

namespace puna {
namespace {

std::vector<Tool> known_tools(std::vector<std::string> names = {"get_weather", "trending_songs", "f", "g"}) {
  std::vector<Tool> list;
  for (std::string& name : names) list.push_back({std::move(name), "", Json::object()});
  return list;
}

const std::vector<std::string> kBuiltins = {"brave_search", "wolfram_alpha", "code_interpreter"};

Message parse(std::string_view raw, const std::vector<Tool>& known = known_tools(), const std::vector<std::string>& builtins = {}) {
  return parse_assistant(*prompt_format_from_name("llama3.1"), raw, known, builtins);
}

// "name{arguments}name{arguments}|content"
std::string summary(const Message& message) {
  std::string text;
  for (const ToolCall& call : message.tool_calls) text += call.name + call.arguments.dump();
  return text + "|" + message.content;
}

TEST(ParseAssistant, PlainTextLosesOnlyTheFrame) {
  EXPECT_EQ(summary(parse("Hello there.<|eot_id|>")), "|Hello there.");
  EXPECT_EQ(summary(parse("<|start_header_id|>assistant<|end_header_id|>\n\n Hello \n<|eom_id|><|eot_id|>")), "| Hello \n");
  EXPECT_EQ(summary(parse("")), "|");
  EXPECT_EQ(summary(parse("<|eot_id|>")), "|");
}

TEST(ParseAssistant, BareJson) {
  EXPECT_EQ(summary(parse(R"x({"name": "f", "parameters": {"a": 1}}<|eot_id|>)x")), R"x(f{"a":1}|)x");
  EXPECT_EQ(summary(parse(R"x({"type": "function", "name": "f", "parameters": {"a": {"b": {"c": "}"}}}})x")),
            R"x(f{"a":{"b":{"c":"}"}}}|)x");
  EXPECT_EQ(summary(parse(R"x({"name": "f", "arguments": {"a": 1}})x")), R"x(f{"a":1}|)x");
  EXPECT_EQ(summary(parse(R"x({"name": "f", "arguments": "{\"a\": 1}"})x")), R"x(f{"a":1}|)x");
  EXPECT_EQ(summary(parse(R"x({"type":"function","function":{"name":"f","arguments":{"a":1}}})x")), R"x(f{"a":1}|)x");
  EXPECT_EQ(summary(parse(R"x({"function": "f", "parameters": {}})x")), "f{}|");
  EXPECT_EQ(summary(parse(R"x({"name": "f", "parameters": null})x")), "f{}|");
  EXPECT_EQ(summary(parse(R"x({"name": "f"})x")), "f{}|");
  EXPECT_EQ(summary(parse("{\n  \"parameters\": {\"a\": \"é\\n\"},\n  \"name\": \"f\"\n}\n")), R"x(f{"a":"é\n"}|)x");
}

TEST(ParseAssistant, SeveralCalls) {
  const char* const both = R"x(f{"a":1}g{"b":2}|)x";
  EXPECT_EQ(summary(parse(R"x({"name": "f", "parameters": {"a": 1}}; {"name": "g", "parameters": {"b": 2}})x")), both);
  EXPECT_EQ(summary(parse("{\"name\": \"f\", \"parameters\": {\"a\": 1}}\n{\"name\": \"g\", \"parameters\": {\"b\": 2}}")), both);
  EXPECT_EQ(summary(parse(R"x({"name": "f", "parameters": {"a": 1}}, {"name": "g", "parameters": {"b": 2}})x")), both);
  EXPECT_EQ(summary(parse(R"x([{"name": "f", "parameters": {"a": 1}}, {"name": "g", "parameters": {"b": 2}}])x")), both);
  EXPECT_EQ(summary(parse(R"x(<function=f>{"a": 1}</function><function=g>{"b": 2}</function>)x")), both);
  EXPECT_EQ(summary(parse("[f(a=1), g(b=2)]")), both);
  EXPECT_EQ(
      summary(parse(
          "<|python_tag|>{\"name\": \"f\", \"parameters\": {\"a\": 1}};{\"name\": \"g\", \"parameters\": {\"b\": 2}}<|eom_id|>")),
      both);
}

TEST(ParseAssistant, TextAroundACallStaysContent) {
  EXPECT_EQ(summary(parse("Let me look that up.\n\n{\"name\": \"f\", \"parameters\": {}}")), "f{}|Let me look that up.");
  EXPECT_EQ(summary(parse("Sure: {\"name\": \"f\", \"parameters\": {}}")), "f{}|Sure:");
  EXPECT_EQ(summary(parse("{\"name\": \"f\", \"parameters\": {}}\nI will wait.")), "f{}|I will wait.");
  EXPECT_EQ(summary(parse("First <function=f>{}</function>")), "f{}|First");
  EXPECT_EQ(summary(parse("One moment.<|python_tag|>{\"name\": \"f\", \"parameters\": {}}")), "f{}|One moment.");
  EXPECT_EQ(summary(parse("An open brace {\"oh\n{\"name\": \"f\", \"parameters\": {}}")), "f{}|An open brace {\"oh");
}

TEST(ParseAssistant, WhatOnlyLooksLikeACallStaysContent) {
  for (const char* text : {
           R"x({"name": "unknown_tool", "parameters": {}})x",
           R"x({"name": "f", "parameters": {"a": 1})x",  // cut short
           R"x({"name": "f", "parameters": [1, 2]})x",
           R"x({"name": "f", "parameters": "no json"})x",
           R"x({"name": "f", "age": 3})x",
           R"x({"title": "f", "parameters": {}})x",
           R"x([{"name": "f", "parameters": {}}, 3])x",
           R"x(Call {"name": "f", "parameters": {}} like this.)x",
           "Use it so:\n```json\n{\"name\": \"f\", \"parameters\": {}}\n```\nAnd then wait.",
           "[1, 2, 3]",
           "[]",
           "{}",
           "[link](f(a=1))",
           "[f(1)]",
           "[unknown(a=1)]",
           "[f(a=1)",
           "[f(a=g(b=2))]",
           "<function=unknown>{}</function>",
           "<function=f>no object</function>",
           "<function=",
           "f(a=1)",
           "brave_search.call(query=\"x\")",
           "<|python_tag|>",
           "<|python_tag|>{\"name\": \"unknown_tool\", \"parameters\": {}}",
           "<|python_tag|>print(1)",
       }) {
    EXPECT_EQ(summary(parse(text)), "|" + std::string(text));
  }
}

TEST(ParseAssistant, WithoutKnownToolsOnlyCompleteCallsCount) {
  EXPECT_EQ(summary(parse(R"x({"name": "anything", "parameters": {"a": 1}})x", {})), R"x(anything{"a":1}|)x");
  EXPECT_EQ(summary(parse(R"x({"name": "Ann", "age": 7})x", {})), R"x(|{"name": "Ann", "age": 7})x");
  EXPECT_EQ(summary(parse(R"x({"name": "Ann"})x", {})), R"x(|{"name": "Ann"})x");
  EXPECT_EQ(summary(parse("<|python_tag|>print(1)\nprint(2)<|eom_id|>", {})),
            R"x(code_interpreter{"code":"print(1)\nprint(2)"}|)x");
}

TEST(ParseAssistant, BuiltinTools) {
  EXPECT_EQ(summary(parse("<|python_tag|>brave_search.call(query=\"price of gold\")<|eom_id|>", {}, kBuiltins)),
            R"x(brave_search{"query":"price of gold"}|)x");  // reference
  EXPECT_EQ(summary(parse("<|python_tag|>brave_search.call(query=\"say \\\"hi\\\" (now)\")", {}, kBuiltins)),
            R"x(brave_search{"query":"say \"hi\" (now)"}|)x");
  EXPECT_EQ(summary(parse("brave_search.call(query=\"x\")", known_tools(), kBuiltins)),
            R"x(brave_search{"query":"x"}|)x");  // reference
  EXPECT_EQ(summary(parse("<|python_tag|>print(6 * 7)<|eom_id|>", known_tools(), kBuiltins)),
            R"x(code_interpreter{"code":"print(6 * 7)"}|)x");  // reference
  EXPECT_EQ(summary(parse("<|python_tag|>get_weather(city=\"Rome\")", known_tools(), kBuiltins)),
            R"x(get_weather{"city":"Rome"}|)x");
  // reference: a built-in in a custom tool's form takes its first argument as the query
  EXPECT_EQ(summary(parse(R"x({"name": "brave_search", "parameters": {"q": "gold"}})x", known_tools(), kBuiltins)),
            R"x(brave_search{"query":"gold"}|)x");
  EXPECT_EQ(summary(parse(R"x(<function=brave_search>{"query": "gold"}</function>)x", known_tools(), kBuiltins)),
            R"x(brave_search{"query":"gold"}|)x");
  // in a sentence it is spoken about
  EXPECT_EQ(summary(parse("I would brave_search.call(query=\"x\") now.", known_tools(), kBuiltins)),
            "|I would brave_search.call(query=\"x\") now.");
}

TEST(ParseAssistant, FunctionTags) {
  EXPECT_EQ(summary(parse(R"x(<function=getWeather>{"location":"New York","date":"2023-08-05"})x", known_tools({"getWeather"}))),
            R"x(getWeather{"location":"New York","date":"2023-08-05"}|)x");  // reference
  EXPECT_EQ(summary(parse(R"x(<function=f>{"a": {"b": {"c": 1}}}</function><|eot_id|>)x")), R"x(f{"a":{"b":{"c":1}}}|)x");
  EXPECT_EQ(summary(parse(R"x(<function="f">{"a": "it's"}</function>)x")), R"x(f{"a":"it's"}|)x");
  EXPECT_EQ(summary(parse("<function=f>{'a': 'x', 'b': True}</function>")), R"x(f{"a":"x","b":true}|)x");
}

TEST(ParseAssistant, Pythonic) {
  const auto known =
      known_tools({"get_boiling_point", "get_melting_point", "calculate_volume", "initialize", "process_data", "convert"});
  const auto one = [&](const char* text) { return summary(parse(text, known)); };
  // reference: test_tool_utils.py
  EXPECT_EQ(one(R"x([get_boiling_point(liquid_name="water", celcius=True), get_melting_point(substance="ice", kelvin=False)])x"),
            R"x(get_boiling_point{"liquid_name":"water","celcius":true}get_melting_point{"substance":"ice","kelvin":false}|)x");
  EXPECT_EQ(one("[calculate_volume(radius=5.2, height=10)]"), R"x(calculate_volume{"radius":5.2,"height":10}|)x");
  EXPECT_EQ(one("[initialize()]"), "initialize{}|");
  EXPECT_EQ(
      one(R"x([get_boiling_point(liquid={"name":"water", "color":"translucent"}), convert(value=[100, 101], from_unit="C")])x"),
      R"x(get_boiling_point{"liquid":{"name":"water","color":"translucent"}}convert{"value":[100,101],"from_unit":"C"}|)x");
  for (const char* text : {R"x([get_boiling_point(liquid_name="water"), 42])x", R"x([get_boiling_point("water", True)])x",
                           R"x([[initialize()]])x", R"x({"func": get_boiling_point(liquid_name="water")})x",
                           R"x([initialize(a=True)x", R"x(initialize(a=1))x", R"x([(initialize(),)])x"}) {
    EXPECT_EQ(one(text), "|" + std::string(text));
  }
  EXPECT_EQ(one(R"x([process_data(a='it\'s', b="tab\t", c=-1.5e3, d=None, e=(1, 2), f="\u00e9\x41", g=[], h={}, i='a"b',)])x"),
            R"x(process_data{"a":"it's","b":"tab\t","c":-1500.0,"d":null,"e":[1,2],"f":"éA","g":[],"h":{},"i":"a\"b"}|)x");
  EXPECT_EQ(one("Here you go:\n[initialize()]"), "initialize{}|Here you go:");
  EXPECT_EQ(one("[initialize(big=123456789012345678901234567890)]"), R"x(initialize{"big":1.2345678901234568e+29}|)x");
}

TEST(ParseAssistant, AFencedCallIsACall) {
  EXPECT_EQ(summary(parse("```json\n{\"name\": \"f\", \"parameters\": {\"a\": 1}}\n```<|eot_id|>")), R"x(f{"a":1}|)x");
  EXPECT_EQ(summary(parse("```\nprint(1)\n```")), "|```\nprint(1)\n```");
}

// In Llama 3's words </s> is the end of what is crossed out, in HTML, not of an answer.
TEST(ParseAssistant, AnotherFamilysEndIsText) { EXPECT_EQ(summary(parse("<s>old</s>")), "|<s>old</s>"); }

TEST(ParseAssistant, Llama2HasNoTools) {
  const auto known = known_tools();
  const Message message = parse_assistant(*prompt_format_from_name("llama2"), R"x({"name": "f", "parameters": {}}</s>)x", known);
  EXPECT_EQ(summary(message), R"x(|{"name": "f", "parameters": {}})x");
}

TEST(ParseAssistant, IsLinearOnHostileAnswers) {
  const std::clock_t start = std::clock();  // of the process: other work on the machine does not count
  for (const char* unit : {"{",
                           "[",
                           "<function=",
                           "{\"name\":",
                           "[{\"name\":",
                           "[f(a=",
                           "{\"name\":\"f\",\"parameters\":{",
                           "{\"name\":\"f\",\"parameters\":{}} x ",
                           "{\"name\":\"f\",\"parameters\":{}}\n",
                           "\"",
                           "'",
                           "\\",
                           "<function=f>{'a':",
                           "f(",
                           "\nf(a=1",
                           "[f(a=[",
                           "<function=f>{} ",
                           "[f(),",
                           "{\"name\":\"f\",\"parameters\":{}}; ",
                           "```",
                           "<|python_tag|>",
                           "x {} "}) {
    std::string text;
    while (text.size() < 300000) text += unit;
    parse(text, known_tools(), kBuiltins);
    parse(text + std::string(300000, ' '), known_tools(), kBuiltins);
    parse("<|python_tag|>" + text, known_tools(), kBuiltins);
  }
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  EXPECT_LT(seconds, 60) << "quadratic work takes hours, linear work some seconds";
}

}  // namespace
}  // namespace puna
