// SPDX-License-Identifier: Apache-2.0
#include "grammar/tool_grammar.h"

#include <string>
#include <vector>

#include "base/error.h"
#include "base/nearest.h"
#include "grammar/json_schema.h"
#include "grammar/schema_compiler.h"

namespace puna {
namespace {

const Json kAnyObject = {{"type", "object"}};

class ToolCallWriter {
 public:
  explicit ToolCallWriter(ToolDialect dialect)
      : dialect_(dialect), builder_("tools"), compiler_(builder_), root_(builder_.add_rule("a call")) {}

  void add(const Tool& tool) {
    const std::string where = "tool " + tool.name;
    const Goal arguments = {compiler_.add_document(tool.parameters.is_null() ? kAnyObject : tool.parameters, where),
                            compiler_.add_document(kAnyObject, where)};
    const int rule = compiler_.rule_of(arguments);
    int at = builder_.start_of(root_);
    if (dialect_ == ToolDialect::kFunctionTag) {
      if (tool.name.find_first_of(">\"") != std::string::npos)
        fail(ErrorKind::kUnsupported, where, "the name cannot stand in <function=…>: leave > and \" out");
      at = builder_.add_call(builder_.add_text(at, "<function=" + tool.name + ">"), rule);
      return builder_.add_empty(builder_.add_text(at, "</function>"), builder_.end_of(root_));
    }
    at = space(builder_.add_text(at, "{"));
    if (dialect_ == ToolDialect::kPythonTagJson) at = space(builder_.add_text(member(at, "type", quoted_json("function")), ","));
    at = space(builder_.add_text(member(at, "name", quoted_json(tool.name)), ","));
    at = builder_.add_call(member(at, "parameters", ""), rule);
    builder_.add_empty(builder_.add_text(space(at), "}"), builder_.end_of(root_));
  }

  void add_other_texts() {
    const CharSet space = {{U'\t', U'\n'}, {U'\r', U'\r'}, {U' ', U' '}};
    CharSet other = space;
    other.add(U'{', U'{');
    other.add(U'<', U'<');
    const int start = builder_.start_of(root_), text = builder_.add_state(), end = builder_.end_of(root_);
    const int before = builder_.add_state();
    builder_.add_empty(start, before);
    builder_.add_chars(before, space, before);
    builder_.add_chars(before, other.negated(), text);
    builder_.add_chars(text, CharSet::all(), text);
    builder_.add_empty(before, end);
    builder_.add_empty(text, end);
  }

  Grammar finish() {
    compiler_.finish();
    return builder_.finish(root_, kMaxJsonNesting);
  }

 private:
  int space(int from) { return compiler_.text().add_space(from); }
  int member(int from, const std::string& name, const std::string& value) {
    return builder_.add_text(space(builder_.add_text(from, quoted_json(name) + ":")), value);
  }

  ToolDialect dialect_;
  GrammarBuilder builder_;
  SchemaCompiler compiler_;
  int root_;
};

}  // namespace

namespace {

void check_tools(const PromptFormat& format, std::span<const Tool> tools) {
  if (format.dialect == ToolDialect::kPythonic) {
    fail(ErrorKind::kUnsupported, "tools", "calls in Python's form ({}) cannot be constrained: choose a format with calls in JSON",
         format.name);
  }
  if (tools.empty()) fail(ErrorKind::kUsage, "tools", "a call is required, and there are no tools: give some");
}

}  // namespace

Grammar call_or_text_grammar(const PromptFormat& format, std::span<const Tool> tools) {
  check_tools(format, tools);
  ToolCallWriter writer(format.dialect);
  for (const Tool& tool : tools) writer.add(tool);
  writer.add_other_texts();
  return writer.finish();
}

Grammar tool_call_grammar(const PromptFormat& format, std::span<const Tool> tools, std::string_view named) {
  check_tools(format, tools);
  ToolCallWriter writer(format.dialect);
  std::vector<std::string> names;
  bool found = false;
  for (const Tool& tool : tools) {
    names.push_back(tool.name);
    if (!named.empty() && tool.name != named) continue;
    writer.add(tool);
    found = true;
  }
  if (!found) fail(ErrorKind::kUsage, "tools", "there is no tool '{}'{}", named, did_you_mean(named, names));
  return writer.finish();
}

}  // namespace puna
