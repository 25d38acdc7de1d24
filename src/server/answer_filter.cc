// SPDX-License-Identifier: Apache-2.0
#include "server/answer_filter.h"

#include <algorithm>
#include <utility>

#include "text/unicode.h"

namespace puna {

AnswerFilter::AnswerFilter(const PromptFormat& format, std::vector<Tool> tools) : format_(format), tools_(std::move(tools)) {}

std::string AnswerFilter::push(std::string_view text) {
  all_ += text;
  const std::string_view certain = tools_.empty() ? all_ : watch_.certain(all_, tools_);
  std::string next(certain.substr(std::min(shown_, certain.size())));
  shown_ += next.size();
  return next;
}

AnswerFilter::Ended AnswerFilter::finish() {
  if (tools_.empty()) {
    Message message{.role = puna::Role::kAssistant, .content = all_, .tool_calls = {}, .tool_call_id = {}};
    return {std::move(message), all_.substr(shown_)};
  }
  Ended ended{.message = parse_assistant(format_, all_, tools_), .rest = ""};
  std::string& content = ended.message.content;
  content.erase(0, static_cast<std::size_t>(strip_space(content).data() - content.data()));
  if (content.size() > shown_) ended.rest = content.substr(shown_);
  return ended;
}

}  // namespace puna
