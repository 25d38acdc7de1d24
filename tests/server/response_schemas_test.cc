// SPDX-License-Identifier: Apache-2.0
#include "server/response_schemas.h"

#include <gtest/gtest.h>

namespace puna {
namespace {

TEST(ResponseSchemas, ObjectsHoldWhatIsNamedAndNothingElse) {
  EXPECT_EQ(response_schemas().at("OpenAiError"), Json::parse(R"({"type": "object", "properties": {"error": {
      "type": "object", "properties": {"message": {"type": "string"}, "type": {"type": "string"},
      "param": {"type": ["string", "null"]}, "code": {"type": ["string", "null"]}},
      "required": ["message", "type", "param", "code"], "additionalProperties": false}},
      "required": ["error"], "additionalProperties": false})"));
}

TEST(ResponseSchemas, ShortFormsAreExpanded) {
  const Json schemas = response_schemas();
  const Json& choice = schemas.at("CompletionChunk").at("properties").at("choices").at("items");
  EXPECT_EQ(choice.at("properties").at("finish_reason"), Json::parse(R"({"enum": ["stop", "length", null]})"));
  EXPECT_EQ(choice.at("properties").at("logprobs"),
            Json::parse(R"({"anyOf": [{"$ref": "#/components/schemas/CompletionLogprobs"}, {"type": "null"}]})"));
  EXPECT_EQ(schemas.at("CompletionLogprobs").at("properties").at("top_logprobs"), Json::parse(R"({"type": "array", "items": {
      "anyOf": [{"type": "object", "additionalProperties": {"type": "number"}}, {"type": "null"}]}})"));
  EXPECT_EQ(schemas.at("Model").at("properties").at("object"), Json::parse(R"({"const": "model"})"));
  EXPECT_EQ(schemas.at("Model").at("required"), Json::parse(R"(["id", "object", "created", "owned_by", "puna"])")) << "no parent";
  EXPECT_EQ(schemas.at("ModelList").at("properties").at("data"),
            Json::parse(R"({"type": "array", "items": {"$ref": "#/components/schemas/Model"}})"));
  EXPECT_EQ(schemas.at("RunMetrics").at("properties").at("rows").at("items").at("additionalProperties"), Json::object());
}

}  // namespace
}  // namespace puna
