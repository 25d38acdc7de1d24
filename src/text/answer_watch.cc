// SPDX-License-Identifier: Apache-2.0
#include "text/answer_watch.h"

#include <algorithm>

#include "text/call_scan.h"
#include "text/unicode.h"

namespace puna {
namespace {

constexpr std::size_t kLongestEnd = std::ranges::max(kAnswerEnds, {}, &std::string_view::size).size();

// How much of the text stands before the special tokens at its end, the last of which may be there in part.
std::size_t before_ends(std::string_view text) {
  std::size_t end = text.size();
  for (std::size_t at = text.find('<', end - std::min(end, kLongestEnd)); at < end; at = text.find('<', at + 1)) {
    if (std::ranges::any_of(kAnswerEnds, [&](std::string_view token) { return token.starts_with(text.substr(at)); })) end = at;
  }
  const auto ends_here = [&](std::string_view token) { return text.substr(0, end).ends_with(token); };
  for (auto token = std::ranges::find_if(kAnswerEnds, ends_here); token != kAnswerEnds.end();
       token = std::ranges::find_if(kAnswerEnds, ends_here))
    end -= token->size();
  return end;
}

// Without a character at the end that is there in part.
std::size_t whole_characters(std::string_view text) {
  for (std::size_t back = 1; back <= std::min<std::size_t>(3, text.size()); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xC0U) == 0x80) continue;
    const std::size_t bytes = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
    return bytes > back ? text.size() - back : text.size();
  }
  return text.size();
}

}  // namespace

// Behind a header, which the frame has and an answer may repeat, and behind white space. False where neither is certain.
bool AnswerWatch::begins(std::string_view text) {
  if (!header_known_) {
    const std::size_t spaces = std::min(text.find_first_not_of(' '), text.size());
    const std::string_view header = text.substr(spaces, kAssistantHeader.size());
    if (header.size() < kAssistantHeader.size() && kAssistantHeader.starts_with(header)) return false;
    if (header == kAssistantHeader) begin_ = spaces + header.size();
    header_known_ = true;
  }
  if (begun_) return true;
  begin_ = static_cast<std::size_t>(strip_space(text.substr(begin_)).data() - text.data());
  begun_ = begin_ < text.size();
  tag_from_ = fence_from_ = call_from_ = space_from_ = end_ = begin_;
  return begun_;
}

// Where the tag stands, or may: before it there are no other calls, and what follows is its own.
std::size_t AnswerWatch::tag(std::string_view text) {
  tag_from_ = std::min(text.find('<', tag_from_), text.size());
  while (tag_from_ < text.size()) {
    const std::string_view rest = text.substr(tag_from_, kPythonTag.size());
    if (rest == kPythonTag) without_calls_ = true;
    if (kPythonTag.starts_with(rest)) break;
    tag_from_ = std::min(text.find('<', tag_from_ + 1), text.size());
  }
  return tag_from_;
}

// A call in a fence is one where that is all of the answer; in an answer with other fences there are none.
void AnswerWatch::look_at_fences(std::string_view text) {
  const std::string_view content = text.substr(begin_);
  fenced_ = kFence.starts_with(content.substr(0, kFence.size()));
  const std::size_t fence = text.find(kFence, std::max(fence_from_, begin_ + (fenced_ ? kFence.size() : 0)));
  const bool found = fence < text.size();
  fence_from_ = found ? fence : text.size() - std::min(text.size(), kFence.size() - 1);
  if (!fenced_ || found) {  // one that has as much again behind it does not end the answer
    without_calls_ = found && (!fenced_ || strip_space(content).size() >= fence - begin_ + 2 * kFence.size());
    return;
  }
  const std::size_t line = content.find('\n');
  const std::string_view inside = line < content.size() ? strip_space(content.substr(line)) : "";
  without_calls_ = !inside.empty() && !may_begin_call(inside.front());
}

std::size_t AnswerWatch::scan(std::string_view text, std::span<const Tool> tools) {
  while (call_from_ < text.size()) {
    if (!may_begin_call(text[call_from_])) {
      ++call_from_;
      continue;
    }
    if (text.size() < look_again_) break;
    const std::size_t next = past_no_call(text, call_from_, tools);
    if (next == call_from_) {
      look_again_ = text.size() + (text.size() - call_from_) / 8;  // in all, a long object is read eight times
      break;
    }
    call_from_ = next;
  }
  return call_from_;
}

std::string_view AnswerWatch::certain(std::string_view raw, std::span<const Tool> tools) {
  const std::string_view text = raw.substr(0, std::min(before_ends(raw), whole_characters(raw)));
  if (!begins(text)) return {};
  std::size_t limit = tag(text);
  if (!without_calls_) look_at_fences(text);
  if (!without_calls_) limit = std::min(limit, fenced_ ? begin_ : scan(text, tools));
  if (limit > space_from_) {
    const std::string_view shown = strip_space(text.substr(space_from_, limit - space_from_));
    if (!shown.empty()) end_ = static_cast<std::size_t>(shown.data() + shown.size() - text.data());
    space_from_ = limit;
  }
  return raw.substr(begin_, end_ - begin_);
}

}  // namespace puna
