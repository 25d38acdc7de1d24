// SPDX-License-Identifier: Apache-2.0
#include "server/answer_filter.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

namespace puna {
namespace {

// Where a call may begin: with its dialect's mark, or with an object whose first key is one of a call's.
constexpr std::array<std::string_view, 2> kMarks = {"<|python_tag|>", "<function="};
constexpr std::array<std::string_view, 5> kFirstKeys = {"\"name\"", "\"type\"", "\"function\"", "\"parameters\"", "\"arguments\""};

bool is_space(char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; }

// Whether `text` is a beginning of `whole`, or begins with it.
bool agrees(std::string_view text, std::string_view whole) {
  const std::size_t shared = std::min(text.size(), whole.size());
  return text.substr(0, shared) == whole.substr(0, shared);
}

std::string_view skip_space(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  return text;
}

bool may_be_call(std::string_view text, bool pythonic) {
  if (text.front() == '<') return std::ranges::any_of(kMarks, [&](std::string_view mark) { return agrees(text, mark); });
  if (text.front() == '[' && pythonic) return true;
  std::string_view inner = text;
  while (!inner.empty() && inner.front() == '[') inner = skip_space(inner.substr(1));
  if (inner.empty()) return true;
  if (inner.front() != '{') return false;
  inner = skip_space(inner.substr(1));
  return std::ranges::any_of(kFirstKeys, [&](std::string_view key) { return agrees(inner, key); });
}

}  // namespace

AnswerFilter::AnswerFilter(const PromptFormat& format, std::vector<Tool> tools) : format_(format), tools_(std::move(tools)) {}

std::size_t AnswerFilter::certain() const {
  const bool pythonic = format_.dialect == ToolDialect::kPythonic;
  std::size_t end = all_.size();
  for (std::size_t at = shown_; at < all_.size(); ++at) {
    const char c = all_[at];
    if ((c == '{' || c == '[' || c == '<') && may_be_call(std::string_view(all_).substr(at), pythonic)) {
      end = at;
      break;
    }
  }
  while (end > shown_ && is_space(all_[end - 1])) --end;  // which the reading of a call cuts off
  return end;
}

std::string AnswerFilter::push(std::string_view text) {
  all_ += text;
  const std::size_t end = tools_.empty() ? all_.size() : certain();
  const std::size_t begin = std::exchange(shown_, end);
  return all_.substr(begin, end - begin);
}

AnswerFilter::Ended AnswerFilter::finish() {
  if (tools_.empty()) {
    Message message{.role = puna::Role::kAssistant, .content = all_, .tool_calls = {}, .tool_call_id = {}};
    return {std::move(message), all_.substr(shown_)};
  }
  Ended ended{.message = parse_assistant(format_, all_, tools_), .rest = ""};
  const std::string& content = ended.message.content;
  if (content.size() > shown_ && content.starts_with(std::string_view(all_).substr(0, shown_))) ended.rest = content.substr(shown_);
  return ended;
}

}  // namespace puna
