// SPDX-License-Identifier: Apache-2.0
#include "grammar/tool_grammar.h"

#include <map>
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

  // All texts but those that begin as a call does, in whichever dialect: JSON that begins with none of a call's keys is text.
  void add_other_texts() {
    const CharSet space = {{U'\t', U'\n'}, {U'\r', U'\r'}, {U' ', U' '}};
    const int before = builder_.add_state(), object = builder_.add_state();
    text_ = builder_.add_state();
    builder_.add_empty(builder_.start_of(root_), before);
    builder_.add_chars(text_, CharSet::all(), text_);
    for (const int state : {before, object, text_}) builder_.add_empty(state, builder_.end_of(root_));
    for (const int state : {before, object}) builder_.add_chars(state, space, state);
    CharSet other = space;
    for (const char32_t c : {U'{', U'<'}) other.add(c, c);
    builder_.add_chars(before, other.negated(), text_);
    add_unlike(builder_.add_text(before, "<"), {"function="}, {});
    builder_.add_chars(before, {{U'{', U'{'}}, object);
    other = space;
    other.add(U'"', U'"');
    builder_.add_chars(object, other.negated(), text_);
    // An escape could spell any of them.
    add_unlike(builder_.add_text(object, "\""), {"name\"", "function\"", "parameters\"", "arguments\"", "args\"", "type\"", "id\""},
               {{U'\\', U'\\'}});
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

  // From `from` on, what begins with none of `words`; `never` are characters that cannot stand in place of theirs.
  void add_unlike(int from, const std::vector<std::string>& words, const CharSet& never) {
    builder_.add_empty(from, builder_.end_of(root_));
    std::map<char, std::vector<std::string>> behind;  // the first characters
    for (const std::string& word : words) behind[word.front()].push_back(word.substr(1));
    CharSet known = never;
    for (const auto& [first, rests] : behind) {
      const auto code = static_cast<char32_t>(first);
      known.add(code, code);
      if (!rests.front().empty()) add_unlike(builder_.add_text(from, std::string(1, first)), rests, never);
    }
    builder_.add_chars(from, known.negated(), text_);
  }

  ToolDialect dialect_;
  GrammarBuilder builder_;
  SchemaCompiler compiler_;
  int root_;
  int text_ = 0;  // where any character may follow
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
