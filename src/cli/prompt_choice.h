// SPDX-License-Identifier: Apache-2.0
// Which prompt format a verb uses: the one named by --format, else the model's own.
#pragma once

#include <string>

#include "model/checkpoint.h"
#include "text/chat.h"

namespace puna {

// Throws kUsage naming the nearest for an unknown name; kUnsupported where the model's own template is not known here.
PromptFormat choose_prompt_format(const Checkpoint& checkpoint, const std::string& name);
PromptFormat named_prompt_format(const std::string& name);
// "llama3.1|llama3.2|…"
std::string prompt_format_choices();

}  // namespace puna
