// SPDX-License-Identifier: Apache-2.0
// A stop string may begin in one token and end in a later one, so `pending_` always holds at least the longest beginning of a stop
// string that the text ends with; a match is then found whole in it.
#include "infer/text_stream.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace puna {
namespace {

// The longest proper beginning of `stop` that `text` ends with.
std::size_t overlap(std::string_view text, std::string_view stop) {
  for (std::size_t length = std::min(text.size(), stop.size() - 1); length > 0; --length) {
    if (text.ends_with(stop.substr(0, length))) return length;
  }
  return 0;
}

// Bytes in the character that starts with `lead`; 1 for a byte that starts none.
std::size_t utf8_length(unsigned char lead) {
  if (lead >= 0xf0 && lead < 0xf8) return 4;
  if (lead >= 0xe0) return lead < 0xf0 ? 3 : 1;
  return lead >= 0xc2 ? 2 : 1;
}

}  // namespace

std::size_t incomplete_utf8(std::string_view text) {
  for (std::size_t back = 1; back <= std::min<std::size_t>(3, text.size()); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xc0) != 0x80) return utf8_length(byte) > back ? back : 0;
  }
  return 0;  // only continuation bytes: nothing that more bytes could complete
}

TextStream::TextStream(std::vector<std::string> stop) : stop_(std::move(stop)) {
  for (const std::string& text : stop_) {
    if (text.empty()) fail(ErrorKind::kUsage, "stop", "a stop string is empty: give at least one character");
  }
}

std::string_view TextStream::push(std::string_view bytes) {
  ready_.clear();
  if (stopped()) return ready_;
  for (const char byte : bytes) {
    pending_ += byte;
    for (const std::string& stop : stop_) {
      if (stop.size() > found_.size() && pending_.ends_with(stop)) found_ = stop;
    }
    if (stopped()) {
      pending_.resize(pending_.size() - found_.size());
      return finish();
    }
  }
  std::size_t held = 0;
  for (const std::string& stop : stop_) held = std::max(held, overlap(pending_, stop));
  const std::size_t free = pending_.size() - held;
  return release(free - incomplete_utf8(std::string_view(pending_).substr(0, free)));
}

std::string_view TextStream::finish() { return release(pending_.size() - incomplete_utf8(pending_)); }

std::string_view TextStream::release(std::size_t bytes) {
  ready_.assign(pending_, 0, bytes);
  pending_.erase(0, bytes);
  return ready_;
}

}  // namespace puna
