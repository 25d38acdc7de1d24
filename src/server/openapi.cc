// SPDX-License-Identifier: Apache-2.0
#include "server/openapi.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <utility>
#include <vector>

#include "server/response_schemas.h"

namespace puna {
namespace {

constexpr double kNearlyZero = 1e-6;  // tables write "from 0 on" as a little less, and "more than 0" as a little more

std::vector<const char*> types_of(FieldKind kind) {
  switch (kind) {
    case FieldKind::kBoolean:
      return {"boolean"};
    case FieldKind::kInteger:
      return {"integer"};
    case FieldKind::kNumber:
      return {"number"};
    case FieldKind::kText:
      return {"string"};
    case FieldKind::kObject:
      return {"object"};
    case FieldKind::kList:
      return {"array"};
    case FieldKind::kTextOrList:
      return {"string", "array"};
    case FieldKind::kTextOrObject:
      return {"string", "object"};
    case FieldKind::kBooleanOrInteger:
      return {"boolean", "integer"};
    case FieldKind::kAny:
      break;
  }
  return {};
}

Json whole_or_not(double number) {
  return number == std::floor(number) && std::abs(number) < 9e15 ? Json(static_cast<std::int64_t>(number)) : Json(number);
}

// Limits of each type that the field may have. A text's are in bytes, and its schema's in characters, which are no more.
void add_limits(const FieldRule& rule, Json& schema) {
  if (rule.low == 0 && rule.high == 0) return;
  const double low = std::abs(rule.low) < kNearlyZero ? 0 : rule.low;
  for (const char* type : types_of(rule.kind)) {
    const std::string_view name = type;
    if (name == "integer" || name == "number") {
      schema[rule.low > 0 && low == 0 ? "exclusiveMinimum" : "minimum"] = whole_or_not(low);
      schema["maximum"] = whole_or_not(rule.high);
    } else if (name == "string") {
      schema["minLength"] = low > 0 ? 1 : 0;
      schema["maxLength"] = whole_or_not(rule.high);
    } else if (name == "array") {
      schema["minItems"] = whole_or_not(low);
      schema["maxItems"] = whole_or_not(rule.high);
    }
  }
}

Json field_schema(const FieldRule& rule) {
  Json types = types_of(rule.kind);
  if (types.empty()) return Json::object();
  if (rule.nullable && !rule.required) types.push_back("null");
  Json schema = {{"type", types.size() == 1 ? types.front() : types}};
  add_limits(rule, schema);
  return schema;
}

std::string_view error_schema(ApiFamily family) {
  switch (family) {
    case ApiFamily::kAnthropic:
      return "AnthropicError";
    case ApiFamily::kOllama:
      return "OllamaError";
    case ApiFamily::kOpenAi:
      break;
  }
  return "OpenAiError";
}

Json schema_named(std::string_view name) { return {{"$ref", fmt::format("#/components/schemas/{}", name)}}; }

// What stands in the place of '*'.
constexpr const char* kRest = "name";

// "/v1/models/*" -> "/v1/models/{name}"
std::string templated(std::string_view path) {
  const std::size_t star = path.find('*');
  if (star == std::string_view::npos) return std::string(path);
  return fmt::format("{}{{{}}}{}", path.substr(0, star), kRest, path.substr(star + 1));
}

// "post_v1_models_name"
std::string operation_id(const Route& route) {
  std::string id;
  for (const char c : fmt::format("{}{}", route.method, templated(route.path))) {
    const bool letter = std::isalnum(static_cast<unsigned char>(c)) != 0;
    if (letter || (c != '}' && !id.ends_with('_'))) id += letter ? static_cast<char>(std::tolower(c)) : '_';
  }
  return id;
}

Json operation(const Route& route) {
  const std::span<const FieldRule> rules = route.fields == nullptr ? std::span<const FieldRule>() : route.fields();
  const Json error = schema_named(error_schema(route.family));
  Json answer = {{"description", "the answer"}};
  if (route.answer != nullptr) answer["content"]["application/json"]["schema"] = schema_named(route.answer);
  if (route.event != nullptr) {
    const char* streamed = route.family == ApiFamily::kOllama ? "application/x-ndjson" : "text/event-stream";
    answer["content"][streamed]["schema"] = {{"description", "of each event, or line"},
                                             {"anyOf", Json::array({schema_named(route.event), error})}};
  }
  Json result = {{"operationId", operation_id(route)},
                 {"responses",
                  {{"200", std::move(answer)},
                   {"default", {{"description", "a refusal"}, {"content", {{"application/json", {{"schema", error}}}}}}}}}};
  if (route.path.find('*') != std::string_view::npos)
    result["parameters"] =
        Json::array({{{"name", kRest}, {"in", "path"}, {"required", true}, {"schema", {{"type", "string"}, {"minLength", 1}}}}});
  if (!rules.empty())
    result["requestBody"] = {{"required", true}, {"content", {{"application/json", {{"schema", fields_schema(rules)}}}}}};
  if (route.right == Right::kNone) result["security"] = Json::array();
  if (route.right == Right::kManage) result["description"] = "where the server has keys, one to manage is needed";
  return result;
}

}  // namespace

Json fields_schema(std::span<const FieldRule> rules) {
  Json properties = Json::object(), required = Json::array();
  for (const FieldRule& rule : rules) {
    properties[rule.name] = field_schema(rule);
    if (rule.required) required.push_back(rule.name);
  }
  Json schema = {{"type", "object"}, {"properties", std::move(properties)}, {"additionalProperties", false}};
  if (!required.empty()) schema["required"] = std::move(required);
  return schema;
}

Json openapi_document(std::span<const Route> routes, const std::string& version) {
  Json paths = Json::object();
  for (const Route& route : routes) {
    std::string method(route.method);
    for (char& c : method) c = static_cast<char>(std::tolower(c));
    paths[templated(route.path)][method] = operation(route);
  }
  return {{"openapi", "3.1.0"},
          {"info", {{"title", "Puna"}, {"version", version}}},
          {"paths", std::move(paths)},
          {"components",
           {{"schemas", response_schemas()},
            {"securitySchemes",
             {{"bearer", {{"type", "http"}, {"scheme", "bearer"}}},
              {"key", {{"type", "apiKey"}, {"in", "header"}, {"name", "x-api-key"}}}}}}},
          {"security", Json::array({{{"bearer", Json::array()}}, {{"key", Json::array()}}, Json::object()})}};
}

}  // namespace puna
