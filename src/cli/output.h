// SPDX-License-Identifier: Apache-2.0
// Standard output and standard error. What a model or a file says may hold control sequences that retitle, recolour or reprogram a
// terminal: on a terminal they are shown as symbols; a pipe or a file gets the exact bytes.
#pragma once

#include <exception>
#include <string>
#include <string_view>

#include "base/json.h"

namespace puna {

// The exit code when whoever reads what we write has gone: what a shell shows for a program that SIGPIPE ended.
constexpr int kOutputClosedExit = 141;

class OutputClosed : public std::exception {
 public:
  const char* what() const noexcept override { return "the reader of the output has gone"; }
};

// Exact bytes to what is open as `descriptor`; errors call it `name`. Throws OutputClosed when the reader is gone, kNoRoom when the
// disk behind it is full.
void write_all(int descriptor, std::string_view bytes, const std::string& name);
// The same, to standard output.
void write_out(std::string_view bytes);
// Text for people: as without_controls() gives it on a terminal, exact bytes elsewhere.
void write_text(std::string_view text);
// One line of JSON, without control characters, also for a pipe: DEL and the C1 controls, which JSON may hold as they are, are
// written \u00XX, which reads back as the same.
std::string json_line(const Json& value);
void write_json(const Json& value);
// A line for people on standard error, behind "puna: ".
void write_error(std::string_view message);
// A line for people on standard error.
void write_note(std::string_view message);

bool output_is_terminal();
bool error_is_terminal();
bool input_is_terminal();

}  // namespace puna
