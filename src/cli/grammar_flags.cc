// SPDX-License-Identifier: Apache-2.0
#include "cli/grammar_flags.h"

#include "base/error.h"
#include "cli/input.h"
#include "grammar/gbnf.h"
#include "grammar/json_schema.h"
#include "grammar/regex.h"

namespace puna {
namespace {

// A schema on the command line itself, or the name of its file.
Grammar grammar_of_schema(const std::string& text) {
  const bool inline_schema =
      text.find_first_not_of(" \t\r\n") != std::string::npos && text[text.find_first_not_of(" \t\r\n")] == '{';
  if (inline_schema) return json_schema_grammar(parse_json(text, "--json-schema"), "--json-schema");
  return json_schema_grammar(read_json_file(text), text == "-" ? "standard input" : text);
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

}  // namespace puna
