// SPDX-License-Identifier: Apache-2.0
// What verbs read: text from a flag, a file or standard input, and lists of token ids.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "text/token.h"

namespace puna {

// The whole file; "-" is standard input. Throws kNotFound, kBadInput for something that is not a file.
std::string read_file(const std::string& path);
// All of standard input. On a terminal a line on standard error says how to end it.
std::string read_standard_input();
Json read_json_file(const std::string& path);

// The lines of a text that are not blank. They lie in it.
struct TextLine {
  std::string_view text;
  std::int64_t number = 0;  // from 1, blank ones counted
};
std::vector<TextLine> text_lines(std::string_view text);

// A text from --text, --file or, with neither, standard input. `given` says whether the text was on the command line, so that an
// empty one counts.
struct TextSource {
  std::string text, file;
  bool given = false;
};
std::string read_text_source(const TextSource& source);

// [1, 2] or {"tokens": [1, 2]}. Throws kBadInput for anything that is not a list of ids of 32 bits.
std::vector<Token> tokens_from_json(const Json& value, const std::string& where);
Json tokens_to_json(const std::vector<Token>& tokens);

// "0,63,8192": ascending and below `limit`. Throws kUsage naming `flag`.
std::vector<std::int64_t> parse_positions(std::string_view text, std::int64_t limit, const std::string& flag);

}  // namespace puna
