// SPDX-License-Identifier: Apache-2.0
// What parse_assistant() (text/chat.h) and AnswerWatch (text/answer_watch.h) have in common: the marks in an answer, and where
// reading a call leads to.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string_view>

#include "text/chat.h"

namespace puna {

inline constexpr std::string_view kPythonTag = "<|python_tag|>";
inline constexpr std::string_view kAssistantHeader = "<|start_header_id|>assistant<|end_header_id|>";
inline constexpr std::array<std::string_view, 3> kAnswerEnds = {"<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"};  // of Llama 3
inline constexpr std::string_view kFence = "```";

// Where the reading of calls is tried.
constexpr bool may_begin_call(char c) { return c == '{' || c == '[' || c == '<'; }

// Of an answer that is not whole yet, and whose byte `at` may begin a call: where parse_assistant() will go on behind what is no
// call, whatever follows; `at` where it is a call or may become one. `tools` is not empty.
std::size_t past_no_call(std::string_view text, std::size_t at, std::span<const Tool> tools);

}  // namespace puna
