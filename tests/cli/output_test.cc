// SPDX-License-Identifier: Apache-2.0
#include "cli/output.h"

#include <gtest/gtest.h>

#include <string>

namespace puna {
namespace {

TEST(JsonLine, HoldsNoControlCharacters) {
  EXPECT_EQ(json_line({{"text", "a\x1b[m\x7f|\xc2\x80|\xc2\x9b[31m|\xc2\x9f"}}),
            "{\"text\":\"a\\u001b[m\\u007f|\\u0080|\\u009b[31m|\\u009f\"}\n");
  EXPECT_EQ(json_line("Gr\xc3\xbc\xc3\x9f\x65, \xc2\xa0\xc2"), "\"Gr\xc3\xbc\xc3\x9f\x65, \xc2\xa0\xef\xbf\xbd\"\n");
}

TEST(JsonLine, ReadsBackAsTheSame) {
  std::string text;
  for (char c = 1; c < 0x7F; ++c) text += c;
  for (int c = 0x80; c < 0xC0; ++c) text += {'\x7f', '\xc2', static_cast<char>(c)};
  EXPECT_EQ(parse_json(json_line({{"key\x7f", text}}), "test"), Json({{"key\x7f", text}}));
}

}  // namespace
}  // namespace puna
