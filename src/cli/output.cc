// SPDX-License-Identifier: Apache-2.0
#include "cli/output.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "base/error.h"
#include "base/without_controls.h"

namespace puna {
namespace {

// Whether a write that failed is worth another try. A pipe that does not block, and has no room just now, is waited for.
bool may_write_again(int descriptor) {
  if (errno != EAGAIN) return errno == EINTR;
  pollfd output{.fd = descriptor, .events = POLLOUT, .revents = 0};
  ::poll(&output, 1, -1);
  return true;
}

void write_error_bytes(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(STDERR_FILENO, bytes.data(), bytes.size());
    if (written < 0 && !may_write_again(STDERR_FILENO)) return;  // nowhere left to complain
    if (written > 0) bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace

void write_all(int descriptor, std::string_view bytes, const std::string& name) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno == EPIPE) {
      throw OutputClosed();
    } else if (!may_write_again(descriptor)) {
      fail(ErrorKind::kNoRoom, name, "cannot write: {}", std::strerror(errno));
    }
  }
}

void write_out(std::string_view bytes) { write_all(STDOUT_FILENO, bytes, "standard output"); }

void write_text(std::string_view text) { write_out(output_is_terminal() ? without_controls(text) : std::string(text)); }

std::string json_line(const Json& value) {
  const std::string text = dump_json(value);
  std::string line;
  line.reserve(text.size() + 1);
  for (std::size_t at = 0; at < text.size(); ++at) {
    // Valid UTF-8: U+0080 to U+009F are C2 and the code, and C2 is always the first of two.
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const bool c1 = byte(at) == 0xC2 && byte(at + 1) <= 0x9F;
    if (c1) ++at;
    if (c1 || byte(at) == 0x7F)
      line += fmt::format("\\u{:04x}", byte(at));
    else
      line += text[at];
  }
  return line + "\n";
}

void write_json(const Json& value) { write_out(json_line(value)); }

void write_error(std::string_view message) { write_error_bytes("puna: " + without_controls(message) + "\n"); }

void write_note(std::string_view message) { write_error_bytes(without_controls(message) + "\n"); }

bool output_is_terminal() { return ::isatty(STDOUT_FILENO) == 1; }
bool error_is_terminal() { return ::isatty(STDERR_FILENO) == 1; }
bool input_is_terminal() { return ::isatty(STDIN_FILENO) == 1; }

}  // namespace puna
