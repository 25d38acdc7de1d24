// SPDX-License-Identifier: Apache-2.0
// Bytes of generated tokens become text that can be shown: held back until it is certain that they belong to no stop string and
// end on a whole UTF-8 character.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace puna {

// The bytes at the end of `text` that begin a UTF-8 character without finishing it: 0 to 3.
std::size_t incomplete_utf8(std::string_view text);

class TextStream {
 public:
  // Throws kUsage for an empty stop string.
  explicit TextStream(std::vector<std::string> stop);

  // Adds a token's bytes; returns what is ready, valid until the next call. The stop string that ends first wins; of several that
  // end at the same byte, the longest. It and what follows it are never returned.
  std::string_view push(std::string_view bytes);
  // The rest: what was held back as a possible stop string. A character whose last bytes never came is left out.
  std::string_view finish();
  bool stopped() const { return !found_.empty(); }
  const std::string& found() const { return found_; }  // the stop string that ended it, or empty

 private:
  std::string_view release(std::size_t bytes);

  std::vector<std::string> stop_;
  std::string pending_;  // not returned yet; its end may be the beginning of a stop string
  std::string ready_;
  std::string found_;
};

}  // namespace puna
