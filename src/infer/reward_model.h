// SPDX-License-Identifier: Apache-2.0
// What a reward model thinks of a conversation: r = w · h, h the state of its last token behind the output norm, w the scalar head
// (Ouyang et al., 2022; Llama 3, §4.1.2). Only differences between answers to one prompt mean something.
#pragma once

#include <span>

#include "infer/engine.h"

namespace puna {

// `conversation` ends with the token that ends the assistant's turn. Throws kUnsupported for a model without the head, kNoRoom
// where the conversation is longer than the context.
double reward(Engine& engine, std::span<const Token> conversation);

}  // namespace puna
