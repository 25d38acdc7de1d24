// SPDX-License-Identifier: Apache-2.0
#include "text/tool_prompt.h"

#include <algorithm>
#include <map>

#include "text/python_text.h"

namespace puna {
namespace {

constexpr std::string_view kHfInUser =
    "Given the following functions, please respond with a JSON for a function call with its proper arguments that best answers the "
    "given prompt.\n\n";
constexpr std::string_view kHfInSystem =
    "You have access to the following functions. To call a function, please respond with JSON for a function call.";
constexpr std::string_view kHfFormat =  // no space before "Do not": so it was published
    "Respond in the format {\"name\": function name, \"parameters\": dictionary of argument name and its value}.Do not use "
    "variables.\n\n";

constexpr std::string_view kFunctionTagHead = "You have access to the following functions:\n\n";
constexpr std::string_view kFunctionTagTail =
    "Think very carefully before calling functions.\n"
    "If you choose to call a function ONLY reply in the following format with no prefix or suffix:\n\n"
    "<function=example_function_name>{\"example_name\": \"example_value\"}</function>\n\n"
    "Reminder:\n"
    "- If looking for real time information use relevant functions before falling back to brave_search\n"
    "- Function calls MUST follow the specified format, start with <function= and end with </function>\n"
    "- Required parameters MUST be specified\n"
    "- Only call one function at a time\n"
    "- Put the entire function call reply on one line";

constexpr std::string_view kJsonHead =
    "Answer the user's question by making use of the following functions if needed.\n"
    "If none of the function can be used, please say so.\n"
    "Here is a list of functions in JSON format:\n";
constexpr std::string_view kJsonTail = "\nReturn function calls in JSON format.";

constexpr std::string_view kPythonicHead =
    "You are an expert in composing functions. You are given a question and a set of possible functions.\n"
    "Based on the question, you will need to make one or more function/tool calls to achieve the purpose.\n"
    "If none of the function can be used, point it out. If the given question lacks the parameters required by the function,\n"
    "also point it out. You should only return the function call in tools call sections.\n\n"
    "If you decide to invoke any of the function(s), you MUST put it in the format of [func_name1(params_name1=params_value1, "
    "params_name2=params_value2...), func_name2(params)]\n"
    "You SHOULD NOT include any other text in the response.\n\n"
    "Here is a list of functions in JSON format that you can invoke.\n\n";

const Json kEmptyObject = Json::object();

const Json& properties_of(const Tool& tool) {
  const bool there =
      tool.parameters.is_object() && tool.parameters.contains("properties") && tool.parameters["properties"].is_object();
  return there ? tool.parameters["properties"] : kEmptyObject;
}

Json required_of(const Tool& tool) {
  const bool there = tool.parameters.is_object() && tool.parameters.contains("required") && tool.parameters["required"].is_array();
  return there ? tool.parameters["required"] : Json::array();
}

bool is_required(const Json& required, const std::string& name) {
  return std::find(required.begin(), required.end(), name) != required.end();
}

Json text_at(const Json& property, const char* key) {
  return property.is_object() && property.contains(key) ? property[key] : Json("");
}

// {"type": "function", "function": {…}}, as transformers hands tools to its templates.
Json openai_form(const Tool& tool) {
  Json function;
  function["name"] = tool.name;
  function["description"] = tool.description;
  function["parameters"] = tool.parameters.is_object() ? tool.parameters : Json{{"type", "object"}, {"properties", Json::object()}};
  return Json{{"type", "function"}, {"function", function}};
}

std::string hf_tools(const PromptFormat& format, std::span<const Tool> tools) {
  std::string text(format.tools_in_system ? kHfInSystem : kHfInUser);
  text += kHfFormat;
  for (const Tool& tool : tools) text += python_json(openai_form(tool), 4) + "\n\n";
  return text;
}

// {"genre": {"description": …, "param_type": …, "required": …}, …}: Jinja's own tojson sorts the keys.
Json function_tag_parameters(const Tool& tool) {
  const Json required = required_of(tool);
  std::map<std::string, Json> sorted;
  for (const auto& [name, property] : properties_of(tool).items()) {
    Json entry;
    entry["description"] = text_at(property, "description");
    entry["param_type"] = text_at(property, "type");
    entry["required"] = is_required(required, name);
    sorted[name] = std::move(entry);
  }
  Json parameters = Json::object();
  for (auto& [name, entry] : sorted) parameters[name] = std::move(entry);
  return parameters;
}

std::string function_tag_tools(std::span<const Tool> tools) {
  std::string text(kFunctionTagHead);
  for (const Tool& tool : tools) {
    Json line;
    line["name"] = tool.name;
    line["description"] = tool.description;
    line["parameters"] = function_tag_parameters(tool);
    text += "Use the function '" + tool.name + "' to '" + tool.description + "':\n" + python_json(line) + "\n\n";
  }
  return text + std::string(kFunctionTagTail);
}

// `"required": ["n"]` stands on one line in both of Meta's layouts, so the outer levels are written by hand.
std::string meta_json_tool(const Tool& tool) {
  Json list = Json::array();
  for (const auto& [name, property] : properties_of(tool).items()) {
    Json entry;
    entry["type"] = "object";  // whatever the type is: so it was published
    entry["description"] = text_at(property, "description");
    list.push_back(Json{{name, entry}});
  }
  return "{\n    \"type\": \"function\",\n    \"function\": {\n        \"name\": " + python_json(tool.name) +
         ",\n        \"description\": " + python_json(tool.description) +
         ",\n        \"parameters\": {\n            \"type\": \"object\",\n            \"properties\": " + python_json(list, 4, 3) +
         ",\n            \"required\": " + python_json(required_of(tool)) + "\n        }\n    }\n}\n";
}

std::string meta_json_tools(std::span<const Tool> tools) {
  std::string text(kJsonHead);
  for (const Tool& tool : tools) text += meta_json_tool(tool);
  return text + std::string(kJsonTail);
}

// type, description and default first, then whatever else the schema says (enum, items, …), which the published text had no room
// for.
Json pythonic_property(const Json& property) {
  Json entry;
  entry["type"] = text_at(property, "type");
  entry["description"] = text_at(property, "description");
  if (!property.is_object()) return entry;
  if (property.contains("default")) entry["default"] = property["default"];
  for (const auto& [key, value] : property.items()) entry[key] = value;
  return entry;
}

std::string pythonic_tools(std::span<const Tool> tools) {
  std::string text(kPythonicHead);
  text += "[\n";
  for (std::size_t i = 0; i < tools.size(); ++i) {
    Json properties = Json::object();
    for (const auto& [name, property] : properties_of(tools[i]).items()) properties[name] = pythonic_property(property);
    text += "    {\n        \"name\": " + python_json(tools[i].name) +
            ",\n        \"description\": " + python_json(tools[i].description) +
            ",\n        \"parameters\": {\n            \"type\": \"dict\",\n            \"required\": " +
            python_json(required_of(tools[i])) + ",\n            \"properties\": " + python_json(properties, 4, 3) +
            "\n        }\n    }" + (i + 1 < tools.size() ? ",\n" : "\n");
  }
  return text + "]";
}

// f(a="x", b=1)
std::string keyword_call(const std::string& name, const Json& arguments) {
  std::string text = name + "(";
  bool first = true;
  if (arguments.is_object()) {
    for (const auto& [key, value] : arguments.items()) {
      text += (first ? "" : ", ") + key + "=" + python_literal(value);
      first = false;
    }
  }
  return text + ")";
}

const Json& arguments_of(const ToolCall& call) { return call.arguments.is_object() ? call.arguments : kEmptyObject; }

}  // namespace

bool is_builtin_tool(std::string_view name, std::span<const std::string> builtin_tools) {
  return std::find(builtin_tools.begin(), builtin_tools.end(), name) != builtin_tools.end();
}

std::string tools_text(const PromptFormat& format, std::span<const Tool> tools) {
  switch (format.dialect) {
    case ToolDialect::kFunctionTag:
      return function_tag_tools(tools);
    case ToolDialect::kPythonTagJson:
      return meta_json_tools(tools);
    case ToolDialect::kPythonic:
      return pythonic_tools(tools);
    case ToolDialect::kBareJson:
      break;
  }
  return hf_tools(format, tools);
}

std::string environment_text(const PromptFormat& format, std::span<const Tool> tools, std::span<const std::string> builtin_tools) {
  if (tools.empty() && builtin_tools.empty()) return {};
  std::string named;
  for (const std::string& tool : builtin_tools) {
    if (tool != "code_interpreter") named += (named.empty() ? "" : ", ") + tool;  // the environment itself implies that one
  }
  std::string text = "Environment: ipython\n";
  if (format.dialect == ToolDialect::kBareJson) return builtin_tools.empty() ? text : text + "Tools: " + named + "\n\n";
  if (!named.empty()) return text + "Tools: " + named + "\n";
  return text + "\n";
}

WrittenCall write_call(const PromptFormat& format, const ToolCall& call, std::span<const std::string> builtin_tools) {
  const Json& arguments = arguments_of(call);
  if (is_builtin_tool(call.name, builtin_tools)) {
    const bool code = call.name == "code_interpreter" && arguments.contains("code") && arguments["code"].is_string();
    return {true, code ? arguments["code"].get<std::string>() : keyword_call(call.name + ".call", arguments), true};
  }
  switch (format.dialect) {
    case ToolDialect::kFunctionTag:
      return {false, "<function=" + call.name + ">" + python_json(arguments) + "</function>", false};
    case ToolDialect::kPythonTagJson:
      return {true, python_json(Json{{"type", "function"}, {"name", call.name}, {"parameters", arguments}}), true};
    case ToolDialect::kPythonic:
      return {false, "[" + keyword_call(call.name, arguments) + "]", false};
    case ToolDialect::kBareJson:
      break;
  }
  return {false, "{\"name\": " + python_json(call.name) + ", \"parameters\": " + python_json(arguments) + "}",
          !builtin_tools.empty()};
}

std::string write_pythonic_calls(std::span<const ToolCall> calls) {
  std::string text = "[";
  for (const ToolCall& call : calls) text += (text.size() == 1 ? "" : ", ") + keyword_call(call.name, arguments_of(call));
  return text + "]";
}

}  // namespace puna
