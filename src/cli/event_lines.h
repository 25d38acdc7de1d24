// SPDX-License-Identifier: Apache-2.0
// Server-sent events as they come in pieces: what stands behind "data:", whole lines at a time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

namespace puna {

class EventLines {
 public:
  // Calls take(data) for every line of data that is whole now. False where a line is longer than a megabyte.
  template <typename Take>
  bool push(std::string_view bytes, Take take) {
    constexpr std::size_t kLongest = 1 << 20;
    while (true) {
      const std::size_t end = bytes.find('\n');
      if (left_.size() + std::min(end, bytes.size()) > kLongest) return false;
      left_ += bytes.substr(0, end);
      if (end == std::string_view::npos) return true;
      bytes.remove_prefix(end + 1);
      std::string_view line = left_;
      if (line.ends_with('\r')) line.remove_suffix(1);
      if (line.starts_with("data:")) {
        line.remove_prefix(5);
        if (line.starts_with(' ')) line.remove_prefix(1);
        take(line);
      }
      left_.clear();
    }
  }

 private:
  std::string left_;  // a line's beginning
};

}  // namespace puna
