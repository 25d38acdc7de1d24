// SPDX-License-Identifier: Apache-2.0
#include "cli/input.h"

#include <gtest/gtest.h>

#include "expect_error.h"

namespace puna {
namespace {

std::vector<Token> tokens(const char* json) { return tokens_from_json(parse_json(json, "ids.json"), "ids.json"); }

TEST(TokensFromJson, TakesAListOrAnObject) {
  const std::vector<Token> expected = {Token{1}, Token{128009}};
  EXPECT_EQ(tokens("[1, 128009]"), expected);
  EXPECT_EQ(tokens("{\"tokens\": [1, 128009]}"), expected);
  EXPECT_TRUE(tokens("[]").empty());
  EXPECT_EQ(dump_json(tokens_to_json(expected)), "[1,128009]");
}

TEST(TokensFromJson, RefusesWhatIsNoId) {
  expect_error(ErrorKind::kBadInput, "[ids.json] expected a list of token ids", [] { tokens("{\"ids\": [1]}"); });
  expect_error(ErrorKind::kBadInput, "expected a list of token ids", [] { tokens("3"); });
  expect_error(ErrorKind::kBadInput, "token 1 is -1", [] { tokens("[0, -1]"); });
  expect_error(ErrorKind::kBadInput, "token 0 is 1.5", [] { tokens("[1.5]"); });
  expect_error(ErrorKind::kBadInput, "token 0 is 2147483648", [] { tokens("[2147483648]"); });
  expect_error(ErrorKind::kBadInput, "token 0 is 18446744073709551615", [] { tokens("[18446744073709551615]"); });
  expect_error(ErrorKind::kBadInput, "token 0 is \"a\"", [] { tokens("[\"a\"]"); });
}

TEST(ParsePositions, AscendingAndInside) {
  EXPECT_EQ(parse_positions("0,63,8192", 8193, "--positions"), (std::vector<std::int64_t>{0, 63, 8192}));
  EXPECT_EQ(parse_positions("5", 6, "--positions"), std::vector<std::int64_t>{5});
  expect_error(ErrorKind::kUsage, "position 6 is past the last of 6 tokens (5)", [] { parse_positions("6", 6, "--positions"); });
  expect_error(ErrorKind::kUsage, "position 1 stands behind 2", [] { parse_positions("2,1", 6, "--positions"); });
  expect_error(ErrorKind::kUsage, "position 2 stands behind 2", [] { parse_positions("2,2", 6, "--positions"); });
  for (const char* text : {"", ",", "1,", "a", "-1", "1 ", "99999999999999999999"}) {
    expect_error(ErrorKind::kUsage, "[--positions] '", [&] { parse_positions(text, 6, "--positions"); });
  }
}

TEST(ReadFile, NamesWhatIsWrong) {
  expect_error(ErrorKind::kNotFound, "[/no/such/file] cannot open the file", [] { read_file("/no/such/file"); });
  expect_error(ErrorKind::kBadInput, "this is a folder", [] { read_file("/tmp"); });
  expect_error(ErrorKind::kUsage, "give one of them", [] { read_text_source({.text = "a", .file = "b", .given = true}); });
  EXPECT_EQ(read_text_source({.text = "", .file = "", .given = true}), "");
}

}  // namespace
}  // namespace puna
