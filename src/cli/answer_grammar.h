// SPDX-License-Identifier: Apache-2.0
// What an answer may look like, from the command line and from requests in OpenAI's shape.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "cli/command.h"
#include "grammar/constraint.h"
#include "text/chat.h"

namespace puna {

struct GrammarFlags {
  std::string json_schema, regex, grammar;
  bool given() const { return !json_schema.empty() || !regex.empty() || !grammar.empty(); }
};
// --json-schema, --regex and --grammar.
void add_grammar_flags(Command& command, GrammarFlags& flags);
// Throws kUsage where more than one is given.
Grammar grammar_of(const GrammarFlags& flags);

// Constraints over one vocabulary, which is indexed once, when the first is asked for. Those of the latest shape are kept, for
// requests of one shape usually come together: each is given to one text at a time, and to another when nobody holds it any more.
class Constraints {
 public:
  explicit Constraints(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  // `key` tells grammars apart; `make` is called where it is not that of the constraints before.
  std::shared_ptr<Constraint> get(const std::string& key, const std::function<Grammar()>& make);
  // What "response_format" and "tool_choice" of a chat request ask for; nullptr where any answer will do. Throws kBadInput for
  // values that the API does not have, kUnsupported for those that cannot be followed here.
  std::shared_ptr<Constraint> of_request(const Json& body, const PromptFormat& format, std::span<const Tool> tools,
                                         const std::string& where);

 private:
  const Tokenizer& tokenizer_;
  std::shared_ptr<const VocabularyIndex> vocabulary_;
  std::string key_;
  std::shared_ptr<const Grammar> grammar_;
  std::vector<std::shared_ptr<Constraint>> latest_;
};

}  // namespace puna
