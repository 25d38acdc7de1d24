// SPDX-License-Identifier: Apache-2.0
// PCRE2 as the judge of regular expressions: whether a text matches as a whole, and whether it may become one that does.
#pragma once

#define PCRE2_CODE_UNIT_WIDTH 8
#include <gtest/gtest.h>
#include <pcre2.h>

#include <string>
#include <string_view>

namespace puna {

class Pcre {
 public:
  // Read as ECMA 262 has it: \uHHHH, and $ at the very end only.
  explicit Pcre(const std::string& pattern) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    const std::uint32_t options = PCRE2_UTF | PCRE2_DOLLAR_ENDONLY | PCRE2_ALT_BSUX | PCRE2_NO_START_OPTIMIZE;
    code_ = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), options, &error, &offset, nullptr);
    EXPECT_NE(code_, nullptr) << pattern << " at " << offset;
    data_ = pcre2_match_data_create_from_pattern(code_, nullptr);
  }
  ~Pcre() {
    pcre2_match_data_free(data_);
    pcre2_code_free(code_);
  }
  Pcre(const Pcre&) = delete;
  Pcre& operator=(const Pcre&) = delete;

  bool finds(std::string_view text) { return run(text, 0) >= 0; }
  bool may_grow(std::string_view text) { return run(text, PCRE2_PARTIAL_HARD) == PCRE2_ERROR_PARTIAL; }

 private:
  int run(std::string_view text, std::uint32_t options) {
    return pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0, options, data_, nullptr);
  }

  pcre2_code* code_;
  pcre2_match_data* data_;
};

// The pattern for texts that match as a whole.
inline std::string whole(const std::string& pattern) { return "\\A(?:" + pattern + ")\\z"; }

}  // namespace puna
