// SPDX-License-Identifier: Apache-2.0
// The text of an answer while it is written, where it may hold tool calls: lets prose through at once and holds back what may
// become a call, until it is certain or the answer ends. What was let through, and the rest, are the content of the whole answer.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/answer_watch.h"
#include "text/chat.h"

namespace puna {

class AnswerFilter {
 public:
  // Without tools everything is let through.
  AnswerFilter(const PromptFormat& format, std::vector<Tool> tools);

  // Takes the next text; returns what may be shown of all that came, and was not yet.
  std::string push(std::string_view text);
  // The whole answer, read, and where there are tools without white space before it; `rest` is what of its content was not shown.
  struct Ended {
    Message message;
    std::string rest;
  };
  Ended finish();

 private:
  PromptFormat format_;
  std::vector<Tool> tools_;
  AnswerWatch watch_;
  std::string all_;        // what came
  std::size_t shown_ = 0;  // bytes of the content that were let through
};

}  // namespace puna
