// SPDX-License-Identifier: Apache-2.0
// What a call of a tool looks like in a model's dialect, as a grammar: a model under it calls one tool, with arguments that satisfy
// the tool's schema. Whatever it allows, parse_assistant() (text/chat.h) reads as that call.
//   kBareJson        {"name": "f", "parameters": {…}}
//   kPythonTagJson   {"type": "function", "name": "f", "parameters": {…}}: without <|python_tag|>, since no mask allows a special
//   token kFunctionTag     <function=f>{…}</function>
#pragma once

#include <span>
#include <string_view>

#include "grammar/grammar.h"
#include "text/chat.h"

namespace puna {

// One call of any of the tools, or of the one that is named. Throws kUsage where there is none, or none of that name; kUnsupported
// for kPythonic, and with "tool f#/properties/…" for a schema that json_schema.h refuses.
Grammar tool_call_grammar(const PromptFormat& format, std::span<const Tool> tools, std::string_view named = {});

// One call of any of the tools, or a text that does not begin as a call does in any dialect: with <function=, or with an object
// whose first key is one of a call's. Throws as tool_call_grammar().
Grammar call_or_text_grammar(const PromptFormat& format, std::span<const Tool> tools);

}  // namespace puna
