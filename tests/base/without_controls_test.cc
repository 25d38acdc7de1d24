// SPDX-License-Identifier: Apache-2.0
#include "base/without_controls.h"

#include <gtest/gtest.h>

namespace puna {
namespace {

TEST(WithoutControls, KeepsText) {
  EXPECT_EQ(without_controls("Grüße, 世界 🦙\n\ttab"), "Grüße, 世界 🦙\n\ttab");
  EXPECT_EQ(without_controls(""), "");
}

TEST(WithoutControls, ShowsControlCharactersAsSymbols) {
  EXPECT_EQ(without_controls("\x1b]0;title\x07"), "␛]0;title␇");
  EXPECT_EQ(without_controls("a\rb\x7f"), "a␍b␡");
  EXPECT_EQ(without_controls(std::string_view("a\0b", 3)), "a␀b");
}

TEST(WithoutControls, ReplacesC1ControlsAndBrokenUtf8) {
  EXPECT_EQ(without_controls("\xc2\x9b[31m"), "\xEF\xBF\xBD[31m") << "U+009B begins a control sequence on its own";
  EXPECT_EQ(without_controls("\x9b"), "\xEF\xBF\xBD");
  EXPECT_EQ(without_controls("a\xe4\xb8"), "a\xEF\xBF\xBD\xEF\xBF\xBD") << "cut off";
  EXPECT_EQ(without_controls("\xc0\x9b"), "\xEF\xBF\xBD\xEF\xBF\xBD") << "an overlong ESC";
  EXPECT_EQ(without_controls("\xed\xa0\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD") << "a surrogate";
  EXPECT_EQ(without_controls("\xc2\xa0"), "\xc2\xa0") << "U+00A0 is no control";
}

}  // namespace
}  // namespace puna
