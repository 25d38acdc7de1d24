// SPDX-License-Identifier: Apache-2.0
// What an answer may look like, as a chat request in OpenAI's shape asks for it: "response_format" and "tool_choice"; and the
// constraints that keep texts to it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/json.h"
#include "grammar/constraint.h"
#include "text/chat.h"

namespace puna {

struct AnswerShape {
  std::string key;  // tells shapes apart
  std::function<Grammar()> make;
};

// nullopt where any answer will do. Throws kBadInput for values that the API does not have, kUnsupported for those that cannot be
// followed here; what is wrong with a schema is thrown by make().
std::optional<AnswerShape> answer_shape(const Json& body, const PromptFormat& format, std::span<const Tool> tools,
                                        const std::string& where);

// A call of one of the tools that follows its schema, or a text: for the "tool_choice" auto. `tools_key` tells lists of tools
// apart.
AnswerShape call_or_text_shape(const PromptFormat& format, std::span<const Tool> tools, const Json& tools_key);

// Constraints over one vocabulary, which is indexed once, when the first is asked for. Those of the latest shapes are kept, with
// what they have learnt, and given to one text at a time. Thread-safe.
class ConstraintPool {
 public:
  // The tokenizer outlives it; constraints that were given out do not need it.
  explicit ConstraintPool(const Tokenizer& tokenizer);
  // Throws what the shape's make() throws.
  std::shared_ptr<Constraint> get(const AnswerShape& shape);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace puna
