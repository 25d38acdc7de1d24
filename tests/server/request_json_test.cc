// SPDX-License-Identifier: Apache-2.0
#include "server/request_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "server/refusal.h"

namespace puna {
namespace {

using ::testing::HasSubstr;

std::pair<std::string, std::string> refused_body(std::string_view body) {
  return refused([&] { parse_request(body); });
}

TEST(ParseRequest, ReadsAnObject) {
  const Json body = parse_request(R"({"a": [1, {"b": null}], "c": "\u00e9\ud83d\ude00"})");
  EXPECT_EQ(body.at("c"), "é😀");
}

TEST(ParseRequest, RefusesWhatIsNoObjectOfJson) {
  const std::pair<std::string, std::string> invalid = {"body", "invalid_json"};
  for (const char* body : {"", "[]", "1", "null", "{", "{\"a\":}", "{\"a\":1}x", "{\"a\":1e999}", "{'a':1}", "{\"a\":NaN}",
                           "{\"a\":01}", "{\"a\":\"\\ud800\"}", "{\"a\":\"\xff\"}", "{\"a\":\"\xc0\x80\"}",
                           "{\"a\":\"\xed\xa0\x80\"}", "{\"a\":\"\t\"}", "{\"a\":1,}", "{\"a\":1 \"b\":2}", "\xef\xbb\xbf"}) {
    EXPECT_EQ(refused_body(body), invalid) << body;
  }
}

TEST(ParseRequest, RefusesAKeyThatStandsTwice) {
  EXPECT_EQ(refused_body(R"({"a":1,"a":2})").second, "invalid_json");
  EXPECT_EQ(refused_body(R"({"b":[{"a":1,"\u0061":2}]})").second, "invalid_json");
  EXPECT_NO_THROW(parse_request(R"({"b":[{"a":1},{"a":2}],"a":3})"));
}

TEST(ParseRequest, RefusesDeepNestingWithoutGoingDeep) {
  const auto nested = [](std::size_t levels) { return "{\"a\":" + std::string(levels, '[') + std::string(levels, ']') + "}"; };
  EXPECT_NO_THROW(parse_request(nested(63)));
  EXPECT_EQ(refused_body(nested(64)).second, "invalid_json");
  EXPECT_EQ(refused_body(nested(1'000'000)).second, "invalid_json");
}

TEST(ParseRequest, RefusesMoreValuesThanItTakes) {
  std::string many = "{\"a\":[0";
  for (int i = 0; i < 500'000; ++i) many += ",0";
  EXPECT_EQ(refused_body(many + "]}").second, "invalid_json");
}

constexpr std::array<FieldRule, 6> kRules = {{{"size", FieldKind::kInteger, 1, 10},
                                              {"share", FieldKind::kNumber, 0, 1},
                                              {"name", FieldKind::kText, 1, 4, true},
                                              {"list", FieldKind::kList, 0, 2},
                                              {"flag", FieldKind::kBoolean},
                                              {"strict", FieldKind::kObject, 0, 0, false, false}}};

TEST(CheckFields, TakesWhatTheRulesAllow) {
  EXPECT_NO_THROW(
      check_fields(parse_request(R"({"name":"abc","size":10,"share":0.5,"list":[1,2],"flag":true,"strict":{}})"), kRules));
  EXPECT_NO_THROW(check_fields(parse_request(R"({"name":"abc","size":null,"flag":null})"), kRules));
}

TEST(CheckFields, NamesTheFieldThatIsWrong) {
  const auto check = [](std::string_view body) { return refused([&] { check_fields(parse_request(body), kRules, "x."); }); };
  using Refusal = std::pair<std::string, std::string>;
  EXPECT_EQ(check(R"({"name":"a","size":11})"), Refusal("x.size", "invalid_value"));
  EXPECT_EQ(check(R"({"name":"a","size":0})"), Refusal("x.size", "invalid_value"));
  EXPECT_EQ(check(R"({"name":"a","size":1.5})"), Refusal("x.size", "invalid_type"));
  EXPECT_EQ(check(R"({"name":"a","size":9223372036854775808})"), Refusal("x.size", "invalid_type"));
  EXPECT_EQ(check(R"({"name":"a","size":"1"})"), Refusal("x.size", "invalid_type"));
  EXPECT_EQ(check(R"({"name":"","size":1})"), Refusal("x.name", "invalid_value"));
  EXPECT_EQ(check(R"({"name":"abcde"})"), Refusal("x.name", "invalid_value"));
  EXPECT_EQ(check(R"({"name":null})"), Refusal("x.name", "invalid_type"));
  EXPECT_EQ(check(R"({})"), Refusal("x.name", "missing_required_parameter"));
  EXPECT_EQ(check(R"({"name":"a","list":[1,2,3]})"), Refusal("x.list", "invalid_value"));
  EXPECT_EQ(check(R"({"name":"a","flag":1})"), Refusal("x.flag", "invalid_type"));
  EXPECT_EQ(check(R"({"name":"a","strict":null})"), Refusal("x.strict", "invalid_type"));
}

TEST(CheckFields, NamesTheNearestToAnUnknownField) {
  try {
    check_fields(parse_request(R"({"name":"a","shere":1})"), kRules);
    FAIL();
  } catch (const ApiError& error) {
    EXPECT_EQ(error.param(), "shere");
    EXPECT_EQ(error.code(), "unknown_parameter");
    EXPECT_THAT(error.what(), HasSubstr("did you mean share?"));
  }
}

}  // namespace
}  // namespace puna
