// SPDX-License-Identifier: Apache-2.0
// Which part of an answer that is still written will be its content, whatever follows: a beginning of what parse_assistant()
// (text/chat.h) leaves of the whole answer, without the white space before it. What may be a call, a fence around one, a special
// token or white space at the end is not certain yet. From a text that is a call on nothing is, to the answer's end.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "text/chat.h"

namespace puna {

class AnswerWatch {
 public:
  // The answer so far, which each time begins as the last time, and tools that may be called: at least one, always the same. What
  // is returned only grows.
  std::string_view certain(std::string_view raw, std::span<const Tool> tools);

 private:
  bool begins(std::string_view text);
  std::size_t tag(std::string_view text);
  void look_at_fences(std::string_view text);
  std::size_t scan(std::string_view text, std::span<const Tool> tools);

  bool header_known_ = false, begun_ = false;
  std::size_t begin_ = 0;       // of the content: behind the header and white space
  bool without_calls_ = false;  // none can be found up to the tag, if there is one
  bool fenced_ = false;         // the content begins with a fence, or may
  // How far each of them has looked: for the tag, for a fence, for calls, for white space.
  std::size_t tag_from_ = 0, fence_from_ = 0, call_from_ = 0, space_from_ = 0;
  std::size_t look_again_ = 0;  // at what may be a call, when there is so much text
  std::size_t end_ = 0;         // of what is certain
};

}  // namespace puna
