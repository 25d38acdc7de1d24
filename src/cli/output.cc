// SPDX-License-Identifier: Apache-2.0
#include "cli/output.h"

#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/error.h"

namespace puna {
namespace {

// The length of the UTF-8 character at the front of `text`, and its code point; length 0 where there is none.
struct Character {
  std::size_t length = 0;
  std::uint32_t code = 0;
};

Character front_character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const std::uint8_t lead = byte(0);
  if (lead < 0x80) return {1, lead};
  const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC2 ? 2 : 0;
  if (length == 0 || lead > 0xF4 || text.size() < length) return {};
  std::uint32_t code = lead & (0xFFU >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {};
    code = code << 6 | (byte(i) & 0x3F);
  }
  constexpr std::uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  if (code < kSmallest[length] || code > 0x10FFFF || surrogate) return {};
  return {length, code};
}

void write_all(int descriptor, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno == EPIPE) {
      throw OutputClosed();
    } else if (errno != EINTR) {
      fail(ErrorKind::kNoRoom, "standard output", "cannot write: {}", std::strerror(errno));
    }
  }
}

void write_error_bytes(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(STDERR_FILENO, bytes.data(), bytes.size());
    if (written < 0 && errno != EINTR) return;  // nowhere left to complain
    if (written > 0) bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace

void write_out(std::string_view bytes) { write_all(STDOUT_FILENO, bytes); }

void write_text(std::string_view text) { write_out(output_is_terminal() ? without_controls(text) : std::string(text)); }

void write_json(const Json& value) { write_out(dump_json(value) + "\n"); }

void write_error(std::string_view message) { write_error_bytes("puna: " + without_controls(message) + "\n"); }

void write_note(std::string_view message) { write_error_bytes(without_controls(message) + "\n"); }

bool output_is_terminal() { return ::isatty(STDOUT_FILENO) == 1; }
bool error_is_terminal() { return ::isatty(STDERR_FILENO) == 1; }
bool input_is_terminal() { return ::isatty(STDIN_FILENO) == 1; }

std::string without_controls(std::string_view text) {
  std::string clean;
  clean.reserve(text.size());
  while (!text.empty()) {
    const Character character = front_character(text);
    const std::size_t length = character.length == 0 ? 1 : character.length;
    const std::uint32_t code = character.code;
    if (character.length == 0 || (code >= 0x80 && code <= 0x9F)) {
      clean += "\xEF\xBF\xBD";
    } else if (code == 0x7F) {
      clean += "\xE2\x90\xA1";
    } else if (code < 0x20 && code != '\n' && code != '\t') {
      clean += {'\xE2', '\x90', static_cast<char>(0x80 + code)};
    } else {
      clean += text.substr(0, length);
    }
    text.remove_prefix(length);
  }
  return clean;
}

}  // namespace puna
