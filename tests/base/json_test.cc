// SPDX-License-Identifier: Apache-2.0
// JSON from outside: errors that name the byte, the depth limit, order of keys, objects of very many keys.
#include "base/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <ctime>
#include <string>
#include <utility>

#include "base/error.h"

namespace puna {
namespace {

using testing::HasSubstr;

// The message with which parsing `text` as config.json is refused.
std::string refusal(const std::string& text) {
  try {
    parse_json(text, "config.json");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
    return error.what();
  }
  ADD_FAILURE() << "accepted: " << text.substr(0, 60);
  return "";
}

TEST(ParseJson, NamesFileAndByte) {
  EXPECT_THAT(refusal(R"({"a": 1,})"), HasSubstr("[config.json] not valid JSON at byte 9"));
  EXPECT_THAT(refusal(R"({"a": tru})"), HasSubstr("at byte 10"));
  EXPECT_THAT(refusal(""), HasSubstr("at byte 1"));
  EXPECT_THAT(refusal("[1] 2"), HasSubstr("at byte 5"));
  EXPECT_THAT(refusal("[\"\xff\"]"), HasSubstr("at byte 3"));
  EXPECT_THAT(refusal("[1e999]"), HasSubstr("[config.json] not valid JSON"));
}

TEST(ParseJson, RefusesDepthBombs) {
  EXPECT_EQ(parse_json(std::string(200, '[') + std::string(200, ']'), "x").size(), 1u);
  EXPECT_EQ(refusal(std::string(202, '[') + std::string(202, ']')), "[config.json] JSON nested deeper than 200 levels");
  EXPECT_EQ(refusal(std::string(10'000'000, '[')), "[config.json] JSON nested deeper than 200 levels");
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
  EXPECT_EQ(refusal(objects), "[config.json] JSON nested deeper than 200 levels");
}

TEST(ParseJson, KeepsTheOrderOfKeys) {
  const std::string text = R"({"z":1,"a":{"y":2,"b":3},"m":4})";
  EXPECT_EQ(dump_json(parse_json(text, "x")), text);
}

TEST(ParseJson, TheLastOfEqualKeysCounts) {
  const Json value = parse_json(R"({"a": 1, "b": 2, "a": 3})", "x");
  EXPECT_EQ(dump_json(value), R"({"a":3,"b":2})");
}

TEST(ParseJson, ManyKeysTakeLinearTime) {
  std::string text = "{";
  for (int i = 0; i < 200'000; ++i) text += (i > 0 ? ",\"key" : "\"key") + std::to_string(i) + "\":" + std::to_string(i);
  text += "}";
  const std::clock_t start = std::clock();  // of this process: others on the machine do not count
  const Json value = parse_json(text, "x");
  // One comparison per pair of keys took 25 seconds without a sanitizer.
  EXPECT_LT((std::clock() - start) / CLOCKS_PER_SEC, 10);
  ASSERT_EQ(value.size(), 200'000u);
  EXPECT_EQ(json_at<std::int64_t>(value, "key123456", "x"), 123456);
  EXPECT_FALSE(value.contains("key200000"));
}

TEST(JsonObject, FindsAndErasesAmongManyKeys) {
  Json value = Json::object();
  for (int i = 0; i < 100; ++i) value[std::to_string(i)] = i;
  for (int i = 0; i < 100; i += 2) EXPECT_EQ(value.erase(std::to_string(i)), 1u);
  EXPECT_EQ(value.erase("0"), 0u);
  ASSERT_EQ(value.size(), 50u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(value.contains(std::to_string(i)), i % 2 == 1) << i;
  for (int i = 1; i < 100; i += 2) EXPECT_EQ(value.at(std::to_string(i)), i);
  EXPECT_EQ(value.begin().key(), "1");
  value["0"] = "again";
  EXPECT_EQ(value.at("0"), "again");
  EXPECT_EQ(value.size(), 51u);
}

TEST(JsonObject, CopiesMovesAndClears) {
  Json value = Json::object();
  for (int i = 0; i < 40; ++i) value["k" + std::to_string(i)] = i;
  Json copy = value;
  copy["k0"] = "changed";
  EXPECT_EQ(value.at("k0"), 0);
  EXPECT_NE(copy, value);
  const Json moved = std::move(copy);
  EXPECT_EQ(moved.at("k0"), "changed");
  EXPECT_EQ(moved.at("k39"), 39);
  value.clear();
  EXPECT_FALSE(value.contains("k7"));
  value["k7"] = 8;
  EXPECT_EQ(value.at("k7"), 8);
  EXPECT_THROW(value.at("k8"), Json::out_of_range);
}

TEST(JsonObject, UpdatesFromAnother) {
  Json value = {{"a", 1}, {"b", 2}};
  value.update(Json{{"b", 3}, {"c", 4}});
  EXPECT_EQ(dump_json(value), R"({"a":1,"b":3,"c":4})");
}

TEST(JsonAt, SaysWhatIsMissingOrOfTheWrongType) {
  const Json value = parse_json(R"({"layers": "16", "eps": 1, "bias": null, "half": 0.5})", "x");
  EXPECT_EQ(json_at<std::string>(value, "layers", "x"), "16");
  EXPECT_EQ(json_at<double>(value, "eps", "x"), 1.0);
  const auto message = [&](auto type, const char* key) -> std::string {
    try {
      json_at<decltype(type)>(value, key, "config.json");
      return "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
      return error.what();
    }
  };
  EXPECT_EQ(message(std::int64_t{}, "layers"), "[config.json] \"layers\" is string, expected a whole number");
  EXPECT_EQ(message(std::int64_t{}, "half"), "[config.json] \"half\" is number, expected a whole number");
  EXPECT_EQ(message(bool{}, "eps"), "[config.json] \"eps\" is number, expected true or false");
  EXPECT_EQ(message(double{}, "width"), "[config.json] the key \"width\" is missing");
  EXPECT_EQ(message(std::string{}, "bias"), "[config.json] \"bias\" is null, expected a string");
}

TEST(JsonOr, TakesTheDefaultForAbsentAndNullOnly) {
  const Json value = parse_json(R"({"n": null, "wrong": []})", "x");
  EXPECT_EQ(json_or<std::int64_t>(value, "n", 7, "x"), 7);
  EXPECT_EQ(json_or<std::string>(value, "absent", "d", "x"), "d");
  EXPECT_THROW(json_or<double>(value, "wrong", 1.0, "x"), Error);
  EXPECT_TRUE(json_or<bool>(Json(), "any", true, "x"));
}

TEST(DumpJson, ReplacesBytesThatAreNotUtf8) { EXPECT_EQ(dump_json(Json("a\xff")), "\"a\xEF\xBF\xBD\""); }

}  // namespace
}  // namespace puna
