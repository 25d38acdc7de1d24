// SPDX-License-Identifier: Apache-2.0
// JSON values written as Python writes them, because the prompts Llama 3 was trained on were: json.dumps(ensure_ascii=False) with
// its
// ", " and ": ", and Python literals for pythonic tool calls. Keys keep their order.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"

namespace puna {

// json.dumps(value, indent=indent, ensure_ascii=False); on one line where indent is 0. `depth` is how many levels the value already
// stands inside of, for its own closing bracket.
std::string python_json(const Json& value, int indent = 0, int depth = 0);

// A Python literal: True, None, "text", [1, 2], {"k": 1.5}.
std::string python_literal(const Json& value);

}  // namespace puna
