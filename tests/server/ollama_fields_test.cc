// SPDX-License-Identifier: Apache-2.0
#include "server/routes/ollama_fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace puna {
namespace {

using std::chrono::seconds;

TEST(GoDuration, IsReadAsGoReadsIt) {
  EXPECT_EQ(parse_go_duration("5m"), 300);
  EXPECT_EQ(parse_go_duration("1h30m"), 5400);
  EXPECT_EQ(parse_go_duration("1.5h"), 5400);
  EXPECT_EQ(parse_go_duration("1500ms"), 1.5);
  EXPECT_EQ(parse_go_duration("-1m"), -60);
  EXPECT_EQ(parse_go_duration("+3s"), 3);
  EXPECT_EQ(parse_go_duration("0"), 0);
  EXPECT_NEAR(parse_go_duration("250us").value(), 250e-6, 1e-12);
  EXPECT_NEAR(parse_go_duration("250µs").value(), 250e-6, 1e-12);
}

TEST(GoDuration, MayBeSecondsWithoutAUnit) {
  EXPECT_EQ(parse_go_duration("300"), 300);
  EXPECT_EQ(parse_go_duration("-1"), -1);
}

TEST(GoDuration, IsNothingElse) {
  for (const char* text :
       {"", "-", "m", "5x", "5 m", " 5m", "5m ", "1h30", "five", "5mm", "0x10s", "1e3s", "..s", "inf", "nan", "5m-3s"})
    EXPECT_EQ(parse_go_duration(text), std::nullopt) << text;
}

TEST(KeepAlive, IsWholeSecondsUpwards) {
  const auto kept = [](const Json& body) { return keep_alive_of(body, Right::kManage); };
  EXPECT_EQ(kept(Json::object()), std::nullopt);
  EXPECT_EQ(kept({{"keep_alive", nullptr}}), std::nullopt);
  EXPECT_EQ(kept({{"keep_alive", 0}}), seconds(0));
  EXPECT_EQ(kept({{"keep_alive", 2.1}}), seconds(3));
  EXPECT_EQ(kept({{"keep_alive", "10ms"}}), seconds(1));
  EXPECT_EQ(kept({{"keep_alive", -1}}), seconds(-1));
  EXPECT_EQ(kept({{"keep_alive", "-5m"}}), seconds(-1));
  EXPECT_EQ(kept({{"keep_alive", 1e300}}), seconds(1'000'000'000));
  for (const Json& wrong : {Json("soon"), Json(true), Json::array(), Json::object(), Json(std::string(1 << 20, '1'))})
    EXPECT_THROW(kept({{"keep_alive", wrong}}), ApiError) << wrong.type_name();
  EXPECT_EQ(keep_alive_of({{"keep_alive", "5m"}}, Right::kInfer), std::nullopt) << "a key that only asks pins nothing";
}

TEST(ModelName, LosesWhatClientsPutAroundIt) {
  EXPECT_EQ(plain_model_name("nano"), "nano");
  EXPECT_EQ(plain_model_name("nano:latest"), "nano");
  EXPECT_EQ(plain_model_name("hf.co/org/name:Q4_K_M"), "org/name:Q4_K_M");
  EXPECT_EQ(plain_model_name("huggingface.co/org/name:latest"), "org/name");
  EXPECT_EQ(plain_model_name(":latest"), "");
}

TEST(Shaping, IsOpenAisResponseFormat) {
  EXPECT_EQ(shaping_fields({{"format", ""}}), Json::object());
  EXPECT_EQ(shaping_fields({{"format", nullptr}}), Json::object());
  EXPECT_EQ(shaping_fields({{"format", "json"}}).at("response_format"), Json({{"type", "json_object"}}));
  const Json schema = {{"type", "integer"}};
  EXPECT_EQ(shaping_fields({{"format", schema}}).at("response_format").at("json_schema").at("schema"), schema);
  EXPECT_THROW(shaping_fields({{"format", "yaml"}}), ApiError);
}

TEST(Unsupported, IsRefusedOnlyWhereItAsksForSomething) {
  for (const Json& field : {Json{{"images", Json::array({"aGk="})}}, Json{{"template", "{{ .Prompt }}"}}, Json{{"suffix", "x"}},
                            Json{{"think", true}}, Json{{"think", "high"}}, Json{{"think", 3}}}) {
    Json body = {{"model", "nano"}};
    body.update(field);
    EXPECT_THROW(refuse_unsupported_ollama(body), ApiError) << dump_json(body);
  }
  EXPECT_NO_THROW(refuse_unsupported_ollama(
      {{"model", "nano"}, {"images", Json::array()}, {"template", ""}, {"suffix", ""}, {"think", false}, {"truncate", true}}));
}

TEST(Rfc3339, IsTheTimeInUtc) {
  const std::chrono::system_clock::time_point zero{};
  EXPECT_EQ(rfc3339(zero), "1970-01-01T00:00:00.000000Z");
  EXPECT_EQ(rfc3339(zero + std::chrono::microseconds(1'764'102'024'123'456)), "2025-11-25T20:20:24.123456Z");
}

}  // namespace
}  // namespace puna
