// SPDX-License-Identifier: Apache-2.0
#include "cli/answer_grammar.h"

#include <algorithm>

#include "base/error.h"
#include "cli/input.h"
#include "grammar/gbnf.h"
#include "grammar/json_schema.h"
#include "grammar/regex.h"
#include "grammar/tool_grammar.h"

namespace puna {
namespace {

// A schema on the command line itself, or the name of its file.
Grammar grammar_of_schema(const std::string& text) {
  const bool inline_schema =
      text.find_first_not_of(" \t\r\n") != std::string::npos && text[text.find_first_not_of(" \t\r\n")] == '{';
  if (inline_schema) return json_schema_grammar(parse_json(text, "--json-schema"), "--json-schema");
  return json_schema_grammar(read_json_file(text), text == "-" ? "standard input" : text);
}

// {"type": "json_schema", "json_schema": {"name": …, "schema": {…}}}
Grammar grammar_of_response_format(const Json& format, const std::string& where) {
  const std::string type = json_at<std::string>(format, "type", where);
  if (type == "json_object") return json_object_grammar();
  if (type != "json_schema") {
    fail(ErrorKind::kUnsupported, where, "\"response_format\" has the type \"{}\", expected text, json_object or json_schema",
         type);
  }
  if (!format.contains("json_schema") || !format.at("json_schema").is_object() || !format.at("json_schema").contains("schema"))
    fail(ErrorKind::kBadInput, where, "\"response_format\" has no \"json_schema\" with a \"schema\"");
  return json_schema_grammar(format.at("json_schema").at("schema"), where + ": schema");
}

// The tool that {"type": "function", "function": {"name": …}} names; "required" names none.
std::string chosen_tool(const Json& choice, const std::string& where) {
  if (choice == "required") return "";
  if (choice.is_object() && choice.contains("function")) return json_at<std::string>(choice.at("function"), "name", where);
  fail(ErrorKind::kUnsupported, where,
       "\"tool_choice\" is {}, and only \"auto\", \"required\" and a function by its name can be done here", dump_json(choice));
}

const Json* given(const Json& body, const char* key, const Json& otherwise) {
  if (!body.contains(key) || body.at(key).is_null() || body.at(key) == otherwise) return nullptr;
  return &body.at(key);
}

}  // namespace

void add_grammar_flags(Command& command, GrammarFlags& flags) {
  command.flag("--json-schema", "FILE|JSON", &flags.json_schema, "the answer is JSON that satisfies this schema");
  command.flag("--regex", "PATTERN", &flags.regex, "the whole answer matches this regular expression");
  command.flag("--grammar", "FILE", &flags.grammar, "the answer follows this grammar, in GBNF");
}

Grammar grammar_of(const GrammarFlags& flags) {
  const int count = static_cast<int>(!flags.json_schema.empty()) + static_cast<int>(!flags.regex.empty()) +
                    static_cast<int>(!flags.grammar.empty());
  if (count > 1) fail(ErrorKind::kUsage, "--grammar", "give one of --json-schema, --regex and --grammar");
  if (!flags.json_schema.empty()) return grammar_of_schema(flags.json_schema);
  if (!flags.regex.empty()) return regex_grammar(flags.regex, "--regex");
  return gbnf_grammar(read_file(flags.grammar), flags.grammar);
}

std::shared_ptr<Constraint> Constraints::get(const std::string& key, const std::function<Grammar()>& make) {
  constexpr std::size_t kMemory = std::size_t{16} << 20;  // of the masks of each
  if (grammar_ == nullptr || key_ != key) {
    grammar_ = std::make_shared<const Grammar>(make());
    latest_.clear();
    key_ = key;
  }
  const auto free = std::ranges::find(latest_, 1, &std::shared_ptr<Constraint>::use_count);
  if (free != latest_.end()) return *free;
  if (vocabulary_ == nullptr) vocabulary_ = std::make_shared<const VocabularyIndex>(tokenizer_);
  return latest_.emplace_back(std::make_shared<Constraint>(grammar_, vocabulary_, kMemory));
}

std::shared_ptr<Constraint> Constraints::of_request(const Json& body, const PromptFormat& format, std::span<const Tool> tools,
                                                    const std::string& where) {
  const Json* shape = given(body, "response_format", Json{{"type", "text"}});
  const Json* choice = given(body, "tool_choice", "auto");
  if (shape != nullptr && !tools.empty()) {
    fail(ErrorKind::kUnsupported, where, "\"response_format\" and \"tools\" together cannot be done here: ask for one of them");
  }
  if (choice != nullptr) {
    const std::string named = chosen_tool(*choice, where);
    return get(dump_json({*choice, body.contains("tools") ? body.at("tools") : Json()}),
               [&] { return tool_call_grammar(format, tools, named); });
  }
  if (shape == nullptr) return nullptr;
  return get(dump_json(*shape), [&] { return grammar_of_response_format(*shape, where); });
}

}  // namespace puna
