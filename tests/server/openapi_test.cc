// SPDX-License-Identifier: Apache-2.0
#include "server/openapi.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <set>

namespace puna {
namespace {

// "/v1/models/*" as OpenAPI writes it.
std::string templated(std::string path) {
  const std::size_t star = path.find('*');
  return star == std::string::npos ? path : path.replace(star, 1, "{name}");
}

TEST(Openapi, HoldsEveryRouteOnceAndNothingElse) {
  const Json document = openapi_document(route_table(), "1.2.3");
  EXPECT_EQ(document.at("openapi"), "3.1.0");
  EXPECT_EQ(document.at("info").at("version"), "1.2.3");
  std::size_t operations = 0;
  for (const auto& [path, methods] : document.at("paths").items()) operations += methods.size();
  EXPECT_EQ(operations, route_table().size());
  std::set<std::string> ids;
  for (const Route& route : route_table()) {
    const std::string path = templated(std::string(route.path)), method = route.method == "GET"    ? "get"
                                                                          : route.method == "POST" ? "post"
                                                                                                   : "delete";
    ASSERT_TRUE(document.at("paths").contains(path)) << path;
    ASSERT_TRUE(document.at("paths").at(path).contains(method)) << method << " " << path;
    const Json& operation = document.at("paths").at(path).at(method);
    EXPECT_TRUE(ids.insert(operation.at("operationId").get<std::string>()).second) << path;
    EXPECT_EQ(operation.contains("parameters"), path != route.path) << path;
    EXPECT_EQ(operation.contains("security"), route.right == Right::kNone) << path;
    EXPECT_EQ(operation.contains("requestBody"), route.fields != nullptr) << path;
  }
}

// A route whose body is checked by a table says so there: only one takes none.
TEST(Openapi, EveryPostHasItsFields) {
  for (const Route& route : route_table()) {
    if (route.method != "POST" || route.path == "/puna/stop") continue;
    EXPECT_NE(route.fields, nullptr) << route.path;
  }
}

// Whatever is a JSON answer has a schema, and what is told in parts has one for them.
TEST(Openapi, AnswersHaveTheirSchemas) {
  const Json document = openapi_document(route_table(), "");
  for (const Route& route : route_table()) {
    const Json& content = document.at("paths")
                              .at(templated(std::string(route.path)))
                              .at(route.method == "GET"    ? "get"
                                  : route.method == "POST" ? "post"
                                                           : "delete")
                              .at("responses")
                              .at("200");
    EXPECT_EQ(content.contains("content"), route.answer != nullptr) << route.path;
    for (const char* name : {route.answer, route.event}) {
      if (name != nullptr) {
        EXPECT_TRUE(document.at("components").at("schemas").contains(name)) << name;
      }
    }
    const bool streams = route.fields != nullptr && std::ranges::any_of(route.fields(), [](const FieldRule& rule) {
                           return std::string_view(rule.name) == "stream";
                         });
    EXPECT_EQ(route.event != nullptr, streams) << route.path;
  }
}

TEST(Openapi, ErrorsHaveTheFamilysShape) {
  const Json paths = openapi_document(route_table(), "").at("paths");
  const auto error = [&](const char* path) {
    return paths.at(path).at("post").at("responses").at("default").at("content").at("application/json").at("schema").at("$ref");
  };
  EXPECT_EQ(error("/v1/messages"), "#/components/schemas/AnthropicError");
  EXPECT_EQ(error("/v1/responses"), "#/components/schemas/OpenAiError");
}

TEST(FieldsSchema, SaysWhatTheTableSays) {
  constexpr std::array<FieldRule, 8> kRules = {{{"model", FieldKind::kText, 1, 512, true},
                                                {"temperature", FieldKind::kNumber, 0, 2},
                                                {"top_p", FieldKind::kNumber, 1e-9, 1},
                                                {"top", FieldKind::kInteger, -1e-9, 20},
                                                {"stop", FieldKind::kTextOrList, 1, 16},
                                                {"stream", FieldKind::kBoolean, 0, 0, false, false},
                                                {"tools", FieldKind::kList},
                                                {"any", FieldKind::kAny}}};
  EXPECT_EQ(fields_schema(kRules), Json::parse(R"({"type": "object", "properties": {
      "model": {"type": "string", "minLength": 1, "maxLength": 512},
      "temperature": {"type": ["number", "null"], "minimum": 0, "maximum": 2},
      "top_p": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 1},
      "top": {"type": ["integer", "null"], "minimum": 0, "maximum": 20},
      "stop": {"type": ["string", "array", "null"], "minLength": 1, "maxLength": 16, "minItems": 1, "maxItems": 16},
      "stream": {"type": "boolean"},
      "tools": {"type": ["array", "null"]},
      "any": {}}, "additionalProperties": false, "required": ["model"]})"));
}

}  // namespace
}  // namespace puna
