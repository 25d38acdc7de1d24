// SPDX-License-Identifier: Apache-2.0
// The text of an answer while it is written, where it may hold tool calls: lets prose through at once and holds back what may
// become a call, until it is certain or the answer ends.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/chat.h"

namespace puna {

class AnswerFilter {
 public:
  // Without tools everything is let through.
  AnswerFilter(const PromptFormat& format, std::vector<Tool> tools);

  // Takes the next text; returns what may be shown of all that came, and was not yet.
  std::string push(std::string_view text);
  // The whole answer, read; `rest` is what of its content was not shown.
  struct Ended {
    Message message;
    std::string rest;
  };
  Ended finish();

 private:
  std::size_t certain() const;  // bytes of all_ that belong to no call, whatever follows

  PromptFormat format_;
  std::vector<Tool> tools_;
  std::string all_;        // what came
  std::size_t shown_ = 0;  // bytes of it that were let through
};

}  // namespace puna
